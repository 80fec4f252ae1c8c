"""Lines of daily figures with a point a day, and the value that is right or the limit."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts import Layered
from dashboards.charts.history import LINE_COLOURS
from dashboards.charts.time_axis import time_x, with_epoch

GREY = "#7A8899"


def daily_chart(
    series: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, *, unit: str, mark: tuple[float, str] | None
) -> Layered:
    """One line a series, a point a day.

    Parameters
    ----------
    series : pl.DataFrame
        Columns ``series``, ``time`` (local midnight), ``value``.
    start, end : datetime
        Period shown.
    zone : ZoneInfo
        The site's.
    unit : str
        Of the values.
    mark : (float, str) or None
        A level to draw across, and what it is.
    """
    names = series["series"].unique(maintain_order=True).to_list()
    colours = [GREY if "simple rule" in name else LINE_COLOURS[i % len(LINE_COLOURS)] for i, name in enumerate(names)]
    day = pl.col("time").dt.convert_time_zone(zone.key).dt.strftime("%a %d %b %Y").alias("day")
    base = alt.Chart(with_epoch(series.with_columns(day))).encode(
        x=time_x(start, end, zone, title="day of the site"),
        y=alt.Y("value:Q", title=unit),
        color=alt.Color(
            "series:N",
            scale=alt.Scale(domain=names, range=colours),
            legend=alt.Legend(title=None, orient="top", columns=2, labelLimit=260),
        ),
        tooltip=[
            alt.Tooltip("day:N", title="day"),
            alt.Tooltip("series:N", title="figure"),
            alt.Tooltip("value:Q", title=unit, format=",.3~f"),
        ],
    )
    layers: list[alt.Chart] = [base.mark_line(strokeWidth=1.6), base.mark_circle(size=36, opacity=1)]
    if mark is not None:
        level = pl.DataFrame({"level": [mark[0]], "what": [mark[1]]})
        rule = alt.Chart(level).mark_rule(color=GREY, strokeDash=[5, 4])
        layers.append(rule.encode(y="level:Q", tooltip=alt.Tooltip("what:N", title="line")))
    return alt.layer(*layers).properties(height=380)

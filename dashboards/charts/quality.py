"""Charts of data quality: completeness by point and day, and a series with what was changed in it."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts import Layered
from dashboards.charts.history import LINE_COLOURS
from dashboards.charts.time_axis import time_x, with_epoch, with_local_label
from dashboards.theme import KIND_COLOURS, SEVERITY_COLOURS


def completeness_chart(days: pl.DataFrame) -> alt.Chart:
    """One square a point and day; the deeper the green, the more of the day was measured well.

    Parameters
    ----------
    days : pl.DataFrame
        Columns ``point``, ``day``, ``good``, ``flagged``, ``missing``.
    """
    return (
        alt.Chart(days)
        .mark_rect(cornerRadius=2, stroke="#7A8899", strokeOpacity=0.25)
        .encode(
            x=alt.X("day:O", title="day (site's own calendar)", axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("point:N", title=None, sort=None, axis=alt.Axis(labelLimit=160)),
            color=alt.Color(
                "good:Q",
                title="good data",
                scale=alt.Scale(
                    domain=[0, 0.8, 1], range=[SEVERITY_COLOURS[1], SEVERITY_COLOURS[3], KIND_COLOURS["wind"]]
                ),
                legend=alt.Legend(format=".0%", orient="top"),
            ),
            tooltip=[
                alt.Tooltip("point:N", title="point"),
                alt.Tooltip("day:O", title="day"),
                alt.Tooltip("good:Q", title="good", format=".0%"),
                alt.Tooltip("flagged:Q", title="intervals flagged"),
                alt.Tooltip("missing:Q", title="intervals missing"),
            ],
        )
        .properties(height=alt.Step(24))
    )


def cleaned_chart(
    raw: pl.DataFrame, clean: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, *, unit: str
) -> Layered:
    """As measured (grey) and as cleansed (coloured), with flagged intervals as dots.

    Parameters
    ----------
    raw : pl.DataFrame
        Columns ``time``, ``value``.
    clean : pl.DataFrame
        Columns ``time``, ``value``, ``flag`` (text, null where nothing was found).
    """
    x = time_x(start, end, zone)
    tooltips = [alt.Tooltip("local_time:N", title="from"), alt.Tooltip("value:Q", title=unit, format=".2f")]
    before = (
        alt.Chart(with_epoch(with_local_label(raw, zone)))
        .mark_line(interpolate="step-after", color="#7A8899", strokeWidth=1.2)
        .encode(x=x, y=alt.Y("value:Q", title=unit), tooltip=tooltips)
    )
    frame = with_epoch(with_local_label(clean, zone))
    after = (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", color=KIND_COLOURS["wind"], strokeWidth=2)
        .encode(x=x, y=alt.Y("value:Q", title=unit), tooltip=tooltips)
    )
    marks = (
        alt.Chart(frame.filter(pl.col("flag").is_not_null()))
        .mark_circle(size=46, color=SEVERITY_COLOURS[2])
        .encode(x=x, y="value:Q", tooltip=[*tooltips, alt.Tooltip("flag:N", title="found")])
    )
    return alt.layer(before, after, marks).properties(height=280)


def coverage_chart(series: pl.DataFrame) -> alt.Chart:
    """Coverage of each meter over time, a line a meter.

    Parameters
    ----------
    series : pl.DataFrame
        Columns ``meter``, ``day``, ``coverage``, ``wrong``, ``estimated``, ``empty``.
    """
    names = series["meter"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(series)
        .mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=1.8, interpolate="monotone")
        .encode(
            x=alt.X("day:T", title=None, axis=alt.Axis(format="%d %b", labelAngle=0, tickCount=6)),
            y=alt.Y(
                "coverage:Q", title="measured and good", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")
            ),
            color=alt.Color(
                "meter:N",
                scale=alt.Scale(domain=names, range=LINE_COLOURS),
                legend=alt.Legend(title=None, orient="top", columns=3, labelLimit=200),
            ),
            tooltip=[
                alt.Tooltip("meter:N", title="meter"),
                alt.Tooltip("day:T", title="day", format="%d %b %Y"),
                alt.Tooltip("coverage:Q", title="measured and good", format=".1%"),
                alt.Tooltip("wrong:Q", title="found wrong"),
                alt.Tooltip("estimated:Q", title="estimated"),
                alt.Tooltip("empty:Q", title="left empty"),
            ],
        )
        .properties(height=260)
    )

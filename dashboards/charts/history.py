"""Lines of measured series."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts.time_axis import time_x, with_epoch, with_local_label

LINE_COLOURS = ["#7C6BF2", "#0FA37F", "#E69F00", "#3B8FD4", "#D9573F", "#C774A8", "#7A8899", "#B4662A"]


def lines_chart(series: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, *, unit: str) -> alt.Chart:
    """One line a series; a gap stays a gap.

    Parameters
    ----------
    series : pl.DataFrame
        Columns ``series``, ``time``, ``value`` (null where nothing was measured).
    """
    names = series["series"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(with_epoch(with_local_label(series, zone)))
        .mark_line(strokeWidth=1.8, invalid="break-paths-show-domains")
        .encode(
            x=time_x(start, end, zone),
            y=alt.Y("value:Q", title=unit),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=names, range=LINE_COLOURS),
                legend=alt.Legend(title=None, orient="top", columns=3, labelLimit=260),
            ),
            tooltip=[
                alt.Tooltip("local_time:N", title="from"),
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("value:Q", title=unit, format=",.3~f"),
            ],
        )
        .properties(height=300)
    )

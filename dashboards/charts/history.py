"""Lines of measured series."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts.time_axis import legend_columns, time_x, with_epoch, with_local_label

MOST_GROUPED = 40
"""With more periods than this, bars of one period stand on each other instead of side by side."""
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
                legend=alt.Legend(title=None, orient="top", columns=legend_columns(1, 3), labelLimit=260),
            ),
            tooltip=[
                alt.Tooltip("local_time:N", title="from"),
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("value:Q", title=unit, format=",.3~f"),
            ],
        )
        .properties(height=300)
    )


def energy_chart(bars: pl.DataFrame, zone: ZoneInfo, label: str) -> alt.Chart:
    """Energy as bars, the reverse direction below zero.

    Parameters
    ----------
    bars : pl.DataFrame
        Columns ``series``, ``time`` (start of the period), ``value`` [kWh].
    label : str
        How a period is labelled, in the notation of strftime.
    """
    names = bars["series"].unique(maintain_order=True).to_list()
    local = pl.col("time").dt.convert_time_zone(zone.key)
    frame = bars.with_columns(local.dt.strftime(label).alias("period")).sort("time")
    order = frame["period"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(frame.drop("time"))
        .mark_bar()
        .encode(
            x=alt.X("period:O", sort=order, title=None, axis=alt.Axis(labelOverlap="greedy", labelAngle=0)),
            y=alt.Y("value:Q", title="kWh"),
            xOffset=alt.XOffset("series:N", sort=names) if len(order) <= MOST_GROUPED else alt.Undefined,
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=names, range=LINE_COLOURS),
                legend=alt.Legend(title=None, orient="top", columns=legend_columns(1, 3), labelLimit=260),
            ),
            tooltip=[
                alt.Tooltip("period:O", title="from"),
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("value:Q", title="kWh", format=",.2f"),
            ],
        )
        .properties(height=300)
    )

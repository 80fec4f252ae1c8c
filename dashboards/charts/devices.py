"""Charts of the links to field devices: share of requests answered, and answer time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts.history import LINE_COLOURS
from dashboards.charts.time_axis import time_x, with_epoch, with_local_label

HEIGHT = 280


def answered_chart(history: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo) -> alt.Chart:
    """Share of requests answered by each link.

    Parameters
    ----------
    history : pl.DataFrame
        Columns ``device_id``, ``time``, ``answered`` (fraction).
    """
    scale = alt.Scale(domain=[0, 1])
    y = alt.Y("answered:Q", title="requests answered", scale=scale, axis=alt.Axis(format=".0%"))
    return _lines(history, start, end, zone, y, alt.Tooltip("answered:Q", format=".1%", title="answered"))


def latency_chart(history: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo) -> alt.Chart:
    """Mean time until an answer of each link.

    Parameters
    ----------
    history : pl.DataFrame
        Columns ``device_id``, ``time``, ``latency_ms`` (ms).
    """
    y = alt.Y("latency_ms:Q", title="answer time [ms]", scale=alt.Scale(zero=True))
    tooltip = alt.Tooltip("latency_ms:Q", format=".0f", title="answer time [ms]")
    return _lines(history.drop_nulls("latency_ms"), start, end, zone, y, tooltip)


def _lines(  # noqa: PLR0917 - what both charts differ in
    history: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, y: alt.Y, tooltip: alt.Tooltip
) -> alt.Chart:
    shown = with_epoch(with_local_label(history, zone))
    return (
        alt.Chart(shown)
        .mark_line(point=alt.OverlayMarkDef(size=14), strokeWidth=1.6)
        .encode(
            x=time_x(start, end, zone),
            y=y,
            color=alt.Color(
                "device_id:N", title=None, scale=alt.Scale(range=list(LINE_COLOURS)), legend=alt.Legend(orient="top")
            ),
            tooltip=[alt.Tooltip("device_id:N", title="device"), alt.Tooltip("local_time:N", title="time"), tooltip],
        )
        .properties(height=HEIGHT)
    )

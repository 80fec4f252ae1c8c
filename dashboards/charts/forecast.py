"""Fan charts: the middle of a forecast with its 10 to 90 % bands, and what was measured."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts import Layered
from dashboards.charts.plan import now_rule
from dashboards.charts.time_axis import time_x, with_epoch, with_local_label

BANDS = (("p10", "p90", 0.16), ("p20", "p80", 0.16), ("p30", "p70", 0.18), ("p40", "p60", 0.20))


def fan_chart(
    forecast: pl.DataFrame,
    measured: pl.DataFrame,
    start: datetime,
    end: datetime,
    zone: ZoneInfo,
    *,
    colour: str,
    unit: str,
    now: datetime,
) -> Layered:
    """Forecast with its bands over the measured values.

    Parameters
    ----------
    forecast : pl.DataFrame
        Columns ``time``, ``value``, ``p10`` ... ``p90``.
    measured : pl.DataFrame
        Columns ``time``, ``value``; may be empty.
    colour : str
        Colour of the forecast.
    unit : str
        Unit of both, for axis and tooltips.
    """
    frame = with_epoch(with_local_label(forecast, zone))
    x = time_x(start, end, zone)
    tooltips = [
        alt.Tooltip("local_time:N", title="from"),
        alt.Tooltip("value:Q", title=f"forecast ({unit})", format=".1f"),
        alt.Tooltip("p10:Q", title="10 %", format=".1f"),
        alt.Tooltip("p90:Q", title="90 %", format=".1f"),
    ]
    base = alt.Chart(frame)
    layers: list[alt.Chart] = [
        base.mark_area(interpolate="step-after", color=colour, opacity=opacity).encode(
            x=x, y=alt.Y(f"{low}:Q", title=unit), y2=f"{high}:Q"
        )
        for low, high, opacity in BANDS
        if {low, high} <= set(forecast.columns)
    ]
    layers.append(
        base.mark_line(interpolate="step-after", color=colour, strokeWidth=2.5).encode(
            x=x, y=alt.Y("value:Q", title=unit), tooltip=tooltips
        )
    )
    if measured.height:
        actual = with_epoch(with_local_label(measured, zone))
        layers.append(
            alt.Chart(actual)
            .mark_line(interpolate="step-after", color="#7A8899", strokeWidth=1.8)
            .encode(
                x=x,
                y=alt.Y("value:Q", title=unit),
                tooltip=[
                    alt.Tooltip("local_time:N", title="from"),
                    alt.Tooltip("value:Q", title=f"measured ({unit})", format=".1f"),
                ],
            )
        )
    return alt.layer(*layers, *now_rule(now, start, end)).properties(height=260)

"""Charts of indicators: one value a period."""

from __future__ import annotations

import altair as alt
import polars as pl

from dashboards.theme import KIND_COLOURS

GOOD_COVERAGE = 0.8
"""Below this share of good data a figure is shown, but pale and marked."""


def kpi_history_chart(history: pl.DataFrame, unit: str) -> alt.Chart:
    """Bars of one indicator over periods; pale where less than 80 % of the data was good.

    Parameters
    ----------
    history : pl.DataFrame
        Columns ``period`` (text), ``value``, ``coverage`` (fraction, may be null).
    unit : str
        Unit for the axis.
    """
    percent = unit in {"fraction", "1"}
    ticks, value = (".3~p", ".4~p") if percent else (",.3~r", ",.6~r")
    shown = "%" if percent else unit
    frame = history.with_columns(pl.col("coverage").fill_null(0.0))
    return (
        alt.Chart(frame)
        .mark_bar(cornerRadiusEnd=3, color=KIND_COLOURS["wind"])
        .encode(
            x=alt.X("period:O", title="period (site's own calendar)", axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("value:Q", title=shown, axis=alt.Axis(format=ticks)),
            opacity=alt.condition(f"datum.coverage >= {GOOD_COVERAGE}", alt.value(1.0), alt.value(0.45)),
            tooltip=[
                alt.Tooltip("period:O", title="period"),
                alt.Tooltip("value:Q", title=f"value ({shown})", format=value),
                alt.Tooltip("coverage:Q", title="good data", format=".0%"),
            ],
        )
        .properties(height=260)
    )

"""Charts of battery health."""

from __future__ import annotations

import altair as alt
import polars as pl

from dashboards.theme import KIND_COLOURS


def soc_bands_chart(bands: pl.DataFrame) -> alt.Chart:
    """How much of the time the storage spent in each tenth of its state of charge."""
    return (
        alt.Chart(bands)
        .mark_bar(cornerRadiusEnd=3, color=KIND_COLOURS["ess"])
        .encode(
            y=alt.Y("band:N", title="state of charge", sort=bands["band"].to_list()[::-1]),
            x=alt.X("share:Q", title="share of the time", axis=alt.Axis(format=".0%")),
            tooltip=[
                alt.Tooltip("band:N", title="state of charge"),
                alt.Tooltip("share:Q", title="share of the time", format=".1%"),
            ],
        )
        .properties(height=260)
    )

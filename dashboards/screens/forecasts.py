"""Forecasts: for each target the middle and its bands, which model made it, and how good it was."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import streamlit as st

from dashboards.charts.forecast import fan_chart
from dashboards.screens.forecast_quality import quality_section
from dashboards.session import PageContext, page_context
from dashboards.theme import colour_of
from dashboards.views.forecast import (
    Accuracy,
    Score,
    Target,
    accuracy,
    level_word,
    scaled,
    score_words,
    targets,
    training_scores,
)
from dashboards.widgets import empty, heading
from dashboards.words import duration, number, percent

BACK = timedelta(hours=24)
AHEAD = timedelta(hours=36)
FEWEST = 8
"""A mean error over fewer intervals says nothing."""


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Forecasts", wide_note="bands: 10–90 % to 40–60 %, grey: measured")
    shown = 0
    scores = training_scores(context.data.kpis("training", context.now - timedelta(days=31), context.now))
    for target in targets(context.site):
        shown += _target(context, target, scores)
    if not shown:
        empty(
            "No forecasts yet.",
            "The pipeline makes them every hour after a first training; `flexergy pipeline run --once` makes them now.",
        )
    quality_section(context, targets(context.site))


def _measured(context: PageContext, target: Target, start: datetime, end: datetime) -> pl.DataFrame:
    if target.asset_id == "market":
        prices = context.data.prices(start, end)
        return scaled(prices.select("time", pl.col("price_eur_per_kwh").alias("value")), target)
    frame = context.data.readings(start, end, [(target.asset_id, target.quantity)], "15m")
    return frame.select("time", "value")


def _target(context: PageContext, target: Target, scores: dict[str, Score]) -> int:
    start, end = context.now - BACK, context.now + AHEAD
    forecast = scaled(context.data.forecast(target.asset_id, target.quantity, start, end), target)
    if forecast.is_empty():
        return 0
    measured = _measured(context, target, start, end if target.asset_id == "market" else context.now)
    before = _measured(context, target, start - timedelta(days=7), context.now - timedelta(days=7))
    with st.container(border=True):
        newest = forecast.sort("time").row(-1, named=True)
        age = duration((context.now - newest["issued_at"]).total_seconds())
        st.markdown(f"**{target.title}** · {target.unit}")
        level = level_word(newest["fallback_level"])
        mark = ":orange-badge" if newest["fallback_level"] else ":green-badge"
        st.markdown(f"{mark}[{level}] {newest['model']}, issued {age} ago")
        chart = fan_chart(
            forecast,
            measured,
            start,
            end,
            context.site.zone,
            colour=colour_of("ev" if target.kind == "price" else target.kind),
            unit=target.unit,
            now=context.now,
        )
        st.altair_chart(chart, width="stretch")
        score = scores.get(f"{target.asset_id}/{target.quantity}")
        if score is not None:
            st.caption(score_words(score, target))
        _accuracy(accuracy(forecast, measured.filter(pl.col("time") <= context.now), before), target)
    return 1


def _accuracy(found: Accuracy | None, target: Target) -> None:
    if found is None or found.intervals < FEWEST:
        st.caption("How good it was is shown once two hours of forecasts can be compared with measurements.")
        return
    parts = [f"last 24 h: mean error {number(found.mae, 2)} {target.unit}"]
    if found.naive_mae is not None:
        parts.append(f"“as last week” would have been {number(found.naive_mae, 2)}")
    if found.covered is not None:
        parts.append(f"{percent(found.covered, 0)} of measurements inside the 10–90 % band (80 % is right)")
    st.caption(" · ".join(parts) + f" · {found.intervals} intervals, newest issue of each")

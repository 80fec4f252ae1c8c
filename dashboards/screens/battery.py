"""Battery health: how each storage is, how it is used, and how much life that use takes."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import streamlit as st

from dashboards.charts.battery import soc_bands_chart
from dashboards.charts.kpi import kpi_history_chart
from dashboards.charts.plan import soc_chart
from dashboards.session import PageContext, page_context
from dashboards.views.battery import battery_figures, time_by_soc
from dashboards.views.kpi import kpi_history
from dashboards.views.live import live_image
from dashboards.widgets import empty, heading, tiles
from flexergy_pipelines.grid import ESS

DAYS = {7: "7 days", 31: "31 days", 366: "a year"}


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Batteries")
    stores = context.site.ess()
    if not stores:
        empty("This site has no storage.", "Storage is declared in the site's configuration.")
        return
    days = st.segmented_control("Period", list(DAYS), format_func=DAYS.__getitem__, default=7, key="bat_days") or 7
    for ess in stores:
        with st.container(border=len(stores) > 1):
            _storage(context, ess, days)


def _storage(context: PageContext, ess: ESS, days: int) -> None:
    start = context.now - timedelta(days=days)
    kpis = context.data.kpis("day", start, context.now).filter(pl.col("scope") == ess.id)
    st.markdown(f"**{ess.id}** · {ess.name}, {str(ess.chemistry).upper()}")
    tiles(battery_figures(ess, kpis, live_image(context.data.live()).value(ess.id, "temperature_c")))
    step = "15m" if days <= 7 else "1h"
    soc = context.data.readings(start, context.now, [(ess.id, "soc")], step).drop_nulls("value")
    if soc.is_empty():
        empty("The state of charge was not measured in this time.", "It comes with the control loop's first readings.")
    else:
        left, right = st.columns([2, 1], gap="large")
        series = soc.select(pl.lit("measured").alias("series"), "time", "value")
        with left:
            st.caption("State of charge")
            limits = (ess.soc_min, ess.soc_max)
            st.altair_chart(soc_chart(series, limits, start, context.now, context.site.zone), width="stretch")
        with right:
            st.caption("Where it spent the time")
            st.altair_chart(soc_bands_chart(time_by_soc(soc)), width="stretch")
    shown = [("equivalent_full_cycles", "Full cycles a day"), ("cycle_damage", "Life used by cycling")]
    for column, (kpi, title) in zip(st.columns(2, gap="large"), shown, strict=True):
        history = kpi_history(kpis, kpi, ess.id, "day", context.site.zone).drop_nulls("value")
        with column:
            st.caption(title)
            if history.is_empty():
                empty("Not known yet.", "It is worked out every night.")
            else:
                st.altair_chart(kpi_history_chart(history, history["unit"][0]), width="stretch")

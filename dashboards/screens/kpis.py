"""KPIs: energy statistics and indicators of a day, month or year, and how they went over time."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import streamlit as st

from dashboards.charts.kpi import kpi_history_chart
from dashboards.session import page_context
from dashboards.views.kpi import PERIOD_WORDS, kpi_history, kpi_name, kpi_table, period_label
from dashboards.widgets import empty, heading

REACH = {"day": timedelta(days=62), "month": timedelta(days=800), "year": timedelta(days=4000)}


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "KPIs")
    kind = st.segmented_control(
        "Period", list(PERIOD_WORDS), format_func=PERIOD_WORDS.__getitem__, default="day", key="kpi_kind"
    )
    kind = kind or "day"
    kpis = context.data.kpis(kind, context.now - REACH[kind], context.now + timedelta(days=1))
    if kpis.is_empty():
        empty(
            f"No indicators by {kind} yet.",
            "They are worked out every night for the day that ended; the first come with the pipeline's first run.",
        )
        return
    zone = context.site.zone
    periods = kpis["period_start"].unique().sort(descending=True).to_list()
    chosen = st.selectbox(
        "Which", periods, format_func=lambda moment: period_label(moment, kind, zone), key=f"kpi_period_{kind}"
    )
    own = kpis.filter(pl.col("period_start") == chosen)
    st.dataframe(kpi_table(own), hide_index=True, width="stretch", height=min(38 + 35 * own.height, 560))
    st.caption("⚠ less than 80 % of the period had good data: take the figure with care.")
    st.download_button(
        "Download as CSV",
        kpis.write_csv(),
        file_name=f"{context.site.id}-kpis-{kind}.csv",
        mime="text/csv",
        icon=":material/download:",
    )
    st.markdown("**Over time**")
    keys = kpis.select("scope", "kpi").unique().sort("scope", "kpi").rows()
    scope, kpi = st.selectbox(
        "Indicator", keys, format_func=lambda key: f"{kpi_name(key[1])} ({key[0] or 'site'})", key="kpi_which"
    )
    history = kpi_history(kpis, kpi, scope, kind, zone)
    st.altair_chart(kpi_history_chart(history, history["unit"][0]), width="stretch")

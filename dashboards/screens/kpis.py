"""KPIs: energy statistics and indicators of a day, month or year, and how they evolve over a range of dates."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import streamlit as st

from dashboards.charts.kpi import kpi_history_chart
from dashboards.session import PageContext, page_context
from dashboards.views.kpi import (
    PERIOD_WORDS,
    headlines,
    kpi_history,
    kpi_table,
    period_label,
    plottable,
    scope_word,
)
from dashboards.views.kpi_catalogue import GROUPS, indicator
from dashboards.widgets import empty, heading, tiles

REACH = {"day": timedelta(days=31), "month": timedelta(days=730), "year": timedelta(days=3650)}


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "KPIs")
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    kind = left.segmented_control(
        "Period", list(PERIOD_WORDS), format_func=PERIOD_WORDS.__getitem__, default="day", key="kpi_kind"
    )
    kind = kind or "day"
    today = context.now.astimezone(context.site.zone).date()
    dates = right.date_input("From, to", (today - REACH[kind], today), max_value=today, key=f"kpi_dates_{kind}")
    kpis = _read(context, kind, dates)
    if kpis.is_empty():
        empty(
            f"No indicators by {kind} in these dates.",
            "They are worked out every night for the day that ended; the first come with the pipeline's first run.",
        )
        return
    _one_period(context, kpis, kind)
    _evolution(context, kpis, kind)


def _read(context: PageContext, kind: str, dates: object) -> pl.DataFrame:
    chosen = [day for day in dates if isinstance(day, date)] if isinstance(dates, tuple) else []
    first = chosen[0] if chosen else context.now.date() - REACH[kind]
    last = chosen[-1] if chosen else context.now.date()
    zone = context.site.zone
    start = datetime.combine(first, time(), tzinfo=zone).astimezone(UTC)
    end = datetime.combine(last + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    if kind != "day":  # a month or year that began before the first date still belongs to it
        start -= timedelta(days=31 if kind == "month" else 366)
    return context.data.kpis(kind, start, end)


def _one_period(context: PageContext, kpis: pl.DataFrame, kind: str) -> None:
    zone = context.site.zone
    periods = kpis["period_start"].unique().sort(descending=True).to_list()
    chosen = st.selectbox(
        kind.capitalize(),
        periods,
        format_func=lambda moment: period_label(moment, kind, zone),
        key=f"kpi_period_{kind}",
    )
    own = kpis.filter(pl.col("period_start") == chosen)
    tiles(headlines(own))
    shown = [group for group in GROUPS if kpi_table(own, group).height]
    for tab, group in zip(st.tabs(shown), shown, strict=True):
        with tab:
            table = kpi_table(own, group)
            st.dataframe(table, hide_index=True, width="stretch", height=min(38 + 35 * table.height, 640))
    st.caption("⚠ less than 80 % of the period had good data: take the figure with care.")
    st.download_button(
        "Download as CSV",
        kpis.write_csv(),
        file_name=f"{context.site.id}-kpis-{kind}.csv",
        mime="text/csv",
        icon=":material/download:",
    )


def _evolution(context: PageContext, kpis: pl.DataFrame, kind: str) -> None:
    st.markdown("**How they evolve**")
    keys = plottable(kpis)
    chosen = st.multiselect(
        "Indicators",
        keys,
        default=keys[:4],
        format_func=lambda key: f"{indicator(key[1]).name} ({scope_word(key[0])})",
        key=f"kpi_which_{kind}",
        max_selections=12,
    )
    columns = st.columns(2, gap="large")
    for place, (scope, kpi) in enumerate(chosen):
        history = kpi_history(kpis, kpi, scope, kind, context.site.zone)
        with columns[place % 2]:
            unit = history["unit"][0]
            st.caption(f"**{indicator(kpi).name}**, {scope_word(scope)}, {'%' if unit == 'fraction' else unit}")
            st.altair_chart(kpi_history_chart(history, unit), width="stretch")

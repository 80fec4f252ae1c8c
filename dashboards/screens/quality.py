"""Data quality: how complete each point was, what was found wrong, and what was made of it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import streamlit as st

from dashboards.charts.quality import cleaned_chart, completeness_chart
from dashboards.session import PageContext, page_context
from dashboards.views.quality import completeness, day_bounds, flag_counts, flag_words, watched_points
from dashboards.widgets import empty, heading
from dashboards.words import local_time

DAYS = {7: "7 days", 14: "14 days", 31: "31 days"}


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Data quality")
    reach = st.segmented_control("Period", list(DAYS), format_func=DAYS.__getitem__, default=14, key="dq_days") or 14
    today = context.now.astimezone(context.site.zone).date()
    days = [today - timedelta(days=n) for n in range(reach, 0, -1)]
    start, _ = day_bounds(days[0], context.site.zone)
    end, _ = day_bounds(today, context.site.zone)
    points = watched_points(context.site)
    clean = context.data.clean(start, end, points)
    if clean.is_empty():
        empty(
            "Nothing was cleansed in these days yet.",
            "The first results come with the next night's check, or at once by `flexergy clean`.",
        )
        return
    st.markdown("**Share of each day that was measured and found good**")
    st.altair_chart(completeness_chart(completeness(clean, points, days, context.site.zone)), width="stretch")
    st.markdown("**What was found**")
    counts = flag_counts(clean)
    if counts.is_empty():
        st.success("Nothing was found wrong in these days.", icon=":material/check:")
    else:
        zone = context.site.zone
        last = pl.Series("last", [local_time(moment, zone) for moment in counts["last"]], dtype=pl.String)
        st.dataframe(counts.with_columns(last), hide_index=True, width="stretch")
    _one_day(context, clean, points)


def _one_day(context: PageContext, clean: pl.DataFrame, points: list[tuple[str, str]]) -> None:
    st.markdown("**As measured, and as cleansed**")
    left, right = st.columns(2)
    at_pcc = [place for place, point in enumerate(points) if point[0] == "pcc"]
    first = at_pcc[0] if at_pcc else 0
    chosen = left.selectbox("Point", points, index=first, format_func=" ".join, key="dq_point")
    last = context.now.astimezone(context.site.zone).date() - timedelta(days=1)
    day = right.date_input("Day", last, max_value=last, key="dq_day")
    start, end = day_bounds(day, context.site.zone)
    asset_id, quantity = chosen
    own = clean.filter((pl.col("asset_id") == asset_id) & (pl.col("quantity") == quantity))
    own = own.filter((pl.col("time") >= start) & (pl.col("time") < end))
    raw = context.data.readings(start, end, [chosen], None).drop_nulls("value")
    if own.is_empty() and raw.is_empty():
        empty("Nothing was measured at this point on this day.", "Choose another day.")
        return
    own = own.with_columns(pl.col("flag").map_elements(flag_words, return_dtype=pl.String))
    unit = "fraction" if quantity == "soc" else "kW"
    st.altair_chart(cleaned_chart(raw, own, start, end, context.site.zone, unit=unit), width="stretch")
    st.caption("Grey: as measured. Green: as cleansed. Orange dots: intervals with a finding.")

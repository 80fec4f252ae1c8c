"""Data quality: how complete each meter was, what was found wrong, what the checks say, and how reading went."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import streamlit as st

from dashboards.charts.quality import cleaned_chart, completeness_chart, coverage_chart
from dashboards.data_docs import PATH as DATA_DOCS
from dashboards.screens.meter_reading import meter_reading
from dashboards.session import PageContext, page_context
from dashboards.views.metering import coverage_by, findings_table, first_day, meter_series, with_devices
from dashboards.views.quality import completeness, day_bounds, flag_counts, flag_words, watched_points
from dashboards.widgets import empty, heading, text_table
from dashboards.words import local_time, quantity_words

DAYS = {7: "7 days", 14: "14 days", 31: "31 days", 92: "3 months", 366: "1 year"}
MOST_DAYS_AS_SQUARES = 31
MOST_LINES = 8


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Data quality")
    st.segmented_control("Period", list(DAYS), format_func=DAYS.__getitem__, default=14, key="dq_days")
    meters, values, checks, reading = st.tabs(["Meters", "Values", "Checks", "Meter reading"])
    with meters:
        _meters(context)
    with values:
        _values(context)
    with checks:
        _checks(context)
    with reading:
        meter_reading(context, _period(context))


def _period(context: PageContext) -> tuple[date, date]:
    """First and last whole day of the chosen period."""
    last = context.now.astimezone(context.site.zone).date() - timedelta(days=1)
    return first_day(last, st.session_state.get("dq_days") or 14), last


def _meters(context: PageContext) -> None:
    first, last = _period(context)
    quality = context.data.quality(first, last)
    if quality.is_empty():
        empty("Nothing was cleansed in these days yet.", "The first results come with the next night's cleansing.")
        return
    named = with_devices(quality, context.site)
    by_meter = coverage_by(named, "meter")
    meters = by_meter["meter"].to_list()
    st.markdown("**Quality of each meter over time**")
    chosen = st.multiselect("Meters", meters, default=meters[:4], max_selections=MOST_LINES, key="dq_meters")
    if chosen:
        st.altair_chart(coverage_chart(meter_series(named, chosen)), width="stretch")
    st.markdown("**By meter, worst first**")
    _coverage(by_meter)
    if named.filter(pl.col("concentrator") != "").height:
        st.markdown("**By data concentrator**")
        _coverage(coverage_by(named, "concentrator").with_columns(pl.col("concentrator").replace("", "none")))
    st.caption("Counts are quarters of an hour: found wrong, filled by an estimate, left empty.")


def _coverage(frame: pl.DataFrame) -> None:
    share = (100 * pl.col("coverage")).round(2)
    text_table(
        frame.with_columns(pl.format("{} %", share).alias("coverage")), unbroken=["worst day", "coverage"], cards=True
    )


def _values(context: PageContext) -> None:
    first, last = _period(context)
    zone = context.site.zone
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    days = days[-MOST_DAYS_AS_SQUARES:]
    points = watched_points(context.site)
    clean = context.data.clean(day_bounds(days[0], zone)[0], day_bounds(last, zone)[1], points)
    if clean.is_empty():
        empty(
            "Nothing was cleansed in these days yet.",
            "The first results come with the next night's check, or at once by `flexergy clean`.",
        )
        return
    if len(days) < (last - first).days + 1:
        st.caption(f"The newest {MOST_DAYS_AS_SQUARES} days; the tab Meters shows the whole period.")
    st.markdown("**Share of each day that was measured and found good**")
    st.altair_chart(completeness_chart(completeness(clean, points, days, zone)), width="stretch")
    st.markdown("**What was found**")
    counts = flag_counts(clean)
    if counts.is_empty():
        st.success("Nothing was found wrong in these days.", icon=":material/check:")
    else:
        newest = pl.Series("last", [local_time(moment, zone) for moment in counts["last"]], dtype=pl.String)
        st.dataframe(counts.with_columns(newest), hide_index=True, width="stretch")
    _one_day(context, clean, points)


def _one_day(context: PageContext, clean: pl.DataFrame, points: list[tuple[str, str]]) -> None:
    st.markdown("**As measured, and as cleansed**")
    left, right = st.columns(2)
    at_pcc = [place for place, point in enumerate(points) if point[0] == "pcc"]
    first = at_pcc[0] if at_pcc else 0
    chosen = left.selectbox(
        "Point", points, index=first, format_func=lambda point: f"{point[0]} {quantity_words(point[1])}", key="dq_point"
    )
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


def _checks(context: PageContext) -> None:
    """What the nightly checks between and within meters found, day by day."""
    first, last = _period(context)
    findings = context.data.findings(first, last)
    st.markdown("**Do the meters agree, and do their days look usual?**")
    if findings.is_empty():
        st.success("The nightly checks found nothing in these days.", icon=":material/check:")
    else:
        text_table(findings_table(findings), unbroken=["day", "check"], cards=True)
    st.caption(
        "Checked every night, up to yesterday: registers against integrated power (2 %), the sum of all assets against "
        "the main meter (3 %), phases that look exchanged, clocks that are off, and days like no other."
    )
    st.markdown("**Expectations of every source**")
    st.html(
        f'<a href="{DATA_DOCS}/index.html" target="_blank" style="font-weight:600;color:inherit">Open the data docs</a>'
        ", with columns, keys, missing values and ranges of readings, cleansed values, weather and prices, and "
        "sample rows."
    )

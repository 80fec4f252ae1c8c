"""History: any measured series over any period, as a picture and as a file."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from dashboards.charts.history import lines_chart
from dashboards.screens.energy import energy_of_period
from dashboards.session import PageContext, page_context
from dashboards.views.history import STEPS, by_unit, measured_points, step_for
from dashboards.views.quality import day_bounds
from dashboards.widgets import empty, heading
from dashboards.words import quantity_words

MOST_SERIES = 8
LONGEST_DAYS = 800


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "History")
    values, energy = st.tabs(["Values", "Energy"])
    with values:
        _values(context)
    with energy:
        today = context.now.astimezone(context.site.zone).date()
        dates = st.date_input("From, to", (today - timedelta(days=7), today), max_value=today, key="en_dates")
        days = [day for day in dates if isinstance(day, date)] if isinstance(dates, tuple) else []
        if len(days) == 2 and days[1] - days[0] <= timedelta(days=LONGEST_DAYS):
            energy_of_period(context, days[0], days[1])
        elif len(days) == 2:
            st.error(f"{(days[1] - days[0]).days} days are too many at once; at most {LONGEST_DAYS}.")


def _values(context: PageContext) -> None:
    zone = context.site.zone
    today = context.now.astimezone(zone).date()
    points = measured_points(context.site)
    chosen = st.multiselect(
        "Series",
        points,
        default=[point for point in points if point[1] in {"active_power_kw", "soc"} and point[0] in {"pcc", "ess-1"}],
        format_func=lambda point: f"{point[0]} {quantity_words(point[1])}" + (f" ({point[2]})" if point[2] else ""),
        max_selections=MOST_SERIES,
        key="hist_points",
    )
    left, right = st.columns([2, 1])
    dates = left.date_input("From, to", (today - timedelta(days=2), today), max_value=today, key="hist_dates")
    days = [day for day in dates if isinstance(day, date)] if isinstance(dates, tuple) else []
    first, last = (days[0], days[-1]) if days else (today, today)
    if last - first > timedelta(days=LONGEST_DAYS):
        st.error(f"{(last - first).days} days are too many at once; at most {LONGEST_DAYS}.")
        return
    start, end = day_bounds(first, zone)[0], min(day_bounds(last, zone)[1], context.now)
    own_step = step_for(end - start)
    step = right.selectbox("Mean over", STEPS, index=STEPS.index(own_step), key=f"hist_step_{own_step}")
    if STEPS.index(step) < STEPS.index(own_step):
        st.caption(f"Too many values for a picture: {own_step} is used for this period.")
        step = own_step
    if not chosen:
        empty("Choose at least one series.", "")
        return
    frame = context.data.readings(start, end, [(asset, quantity) for asset, quantity, _ in chosen], step)
    if frame.drop_nulls("value").is_empty():
        empty("Nothing was measured in this period.", "Readings come with the control loop and with meter files.")
        return
    for unit, series in by_unit(frame, chosen).items():
        st.altair_chart(lines_chart(series, start, end, zone, unit=unit), width="stretch")
    st.download_button(
        "Download as CSV",
        frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ"),
        file_name=f"{context.site.id}-{first}-{last}-{step}.csv",
        mime="text/csv",
        icon=":material/download:",
    )
    st.caption("Times in the file are UTC and name the beginning of the interval; an empty value was not measured.")

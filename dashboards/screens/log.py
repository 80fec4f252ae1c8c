"""Log: who commanded, acknowledged or changed what, and why."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import streamlit as st

from dashboards.session import page_context
from dashboards.views.operation import event_table
from dashboards.widgets import empty, heading, text_table

SHOWN = 100
REACH_DAYS = {1: "last day", 7: "last week", 31: "last month", 366: "last year"}


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Log")
    days = st.segmented_control(
        "Period", list(REACH_DAYS), format_func=REACH_DAYS.__getitem__, default=7, key="log_days"
    )
    events = context.data.events(context.now - timedelta(days=days or 7), context.now + timedelta(minutes=1))
    table = event_table(events, context.site.zone)
    if table.is_empty():
        empty("Nothing was logged in this period.", "Every command, acknowledgement and change comes here at once.")
        return
    people = st.multiselect("Only by", table["who"].unique().sort().to_list(), key="log_who")
    if people:
        table = table.filter(pl.col("who").is_in(people))
    text_table(table.head(SHOWN), unbroken=("when", "who", "did"), cards=True)
    if table.height > SHOWN:
        st.caption(f"The newest {SHOWN} of {table.height}; the download has them all.")
    st.download_button(
        "Download as CSV",
        table.write_csv(),
        file_name=f"{context.site.id}-log.csv",
        mime="text/csv",
        icon=":material/download:",
    )

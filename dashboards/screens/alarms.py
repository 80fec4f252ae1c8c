"""Alarms: what is wrong or was, and acknowledging it."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards.guard import guarded
from dashboards.roles import may_acknowledge
from dashboards.session import PageContext, page_context
from dashboards.theme import SEVERITY_NAMES
from dashboards.widgets import alarm_list, heading, text_table
from dashboards.words import local_time

SHOWN = 100


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Alarms")
    _active()
    st.markdown("**History**")
    _history(context)


@st.fragment(run_every="2s")
@guarded
def _active() -> None:
    context = page_context()
    active = context.data.alarms()
    alarm_list(active, context.site, context.now, limit=50)
    open_ones = active.filter(pl.col("acknowledged_at").is_null())
    if open_ones.is_empty() or not may_acknowledge(context.user.role):
        return
    ids = open_ones["alarm_id"].to_list()
    names = dict(
        zip(
            ids,
            (f"{row['code']} {row['asset_id'] or ''}".strip() for row in open_ones.iter_rows(named=True)),
            strict=True,
        )
    )
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    chosen = left.multiselect("Acknowledge", ids, format_func=lambda i: names.get(i, str(i)), key="ack_which")
    if right.button("Acknowledge", disabled=not chosen, icon=":material/done_all:", width="stretch", key="ack_go"):
        for alarm_id in chosen:
            context.data.acknowledge(alarm_id, context.user.name)
        st.toast(f"{len(chosen)} alarm(s) acknowledged.")
        st.rerun(scope="fragment")


def _history(context: PageContext) -> None:
    frame = context.data.alarms(active_only=False)
    if frame.is_empty():
        st.caption("No alarm was ever raised here.")
        return
    zone = context.site.zone
    rows = [
        {
            "severity": SEVERITY_NAMES.get(row["severity"], str(row["severity"])),
            "code": row["code"],
            "asset": row["asset_id"] or "",
            "message": row["message"],
            "first": local_time(row["first_at"], zone),
            "cleared": local_time(row["cleared_at"], zone) if row["cleared_at"] else "active",
            "times": row["count"],
            "acknowledged by": row["acknowledged_by"] or "",
        }
        for row in frame.sort("first_at", descending=True).head(SHOWN).iter_rows(named=True)
    ]
    text_table(pl.DataFrame(rows), unbroken=("severity", "asset", "first", "cleared"), cards=True)
    if frame.height > SHOWN:
        st.caption(f"The newest {SHOWN} of {frame.height}.")

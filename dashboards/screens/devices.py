"""Devices: how the links to the field work, what goes over them, and what was found and waits for a decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl
import streamlit as st

from dashboards.charts.devices import answered_chart, latency_chart
from dashboards.roles import ADMINISTRATOR, may_command
from dashboards.session import PageContext, forget_sites, page_context
from dashboards.views.devices import PROTOCOL_WORDS, link_figures, link_history, link_table, proposal_table, told
from dashboards.widgets import empty, heading, text_table, tiles
from flexergy_pipelines.grid import SiteError
from flexergy_pipelines.link_trace import listen
from flexergy_pipelines.settings import load_settings
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.field_devices import DeviceProposal

HOURS = {1: "1 hour", 24: "24 hours", 168: "7 days", 744: "31 days"}
MOST_LINES = 8
TRACE_S = 10.0
TRACE_LINES = 200
_SAID = "devices_said"


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Devices")
    said = st.session_state.pop(_SAID, None)
    if said:
        st.success(said, icon=":material/check:")
    hours = st.segmented_control("Period", list(HOURS), format_func=HOURS.__getitem__, default=24, key="dev_hours")
    start = context.now - timedelta(hours=hours or 24)
    summary, found = context.data.link_summary(start, context.now), context.data.found_devices()
    tiles(link_figures(context.site, summary, len(found), context.now))
    if found:
        _found(context, found)
    st.markdown("**Links, what is wrong first**")
    text_table(
        link_table(context.site, summary, context.now),
        unbroken=("device", "answered", "answer time", "data"),
        cards=True,
    )
    if summary.is_empty():
        empty("Nothing was heard of any link in this time.", "Figures come each minute while the control loop runs.")
    else:
        _over_time(context, summary, start)
    if may_command(context.user.role):
        _trace(context)


def _over_time(context: PageContext, summary: pl.DataFrame, start: datetime) -> None:
    st.markdown("**Over time**")
    worst = summary.sort("success", descending=False, nulls_last=True)["device_id"].to_list()
    chosen = st.multiselect(
        "Links", summary["device_id"].to_list(), default=worst[:3], max_selections=MOST_LINES, key="dev_links"
    )
    if not chosen:
        return
    history = link_history(context.data.link_statistics(start, context.now), chosen, start, context.now)
    zone = context.site.zone
    left, right = st.columns(2, gap="large")
    with left:
        st.altair_chart(answered_chart(history, start, context.now, zone), width="stretch")
    with right:
        if history["latency_ms"].null_count() == history.height:
            st.caption("These devices tell by themselves; there is no answer time.")
        else:
            st.altair_chart(latency_chart(history, start, context.now, zone), width="stretch")


def _trace(context: PageContext) -> None:
    """Listen to a link for some seconds."""
    with st.expander("Listen to a link"):
        devices = [device.id for device in context.site.devices()]
        chosen = st.selectbox("Device", devices, key="dev_trace")
        if not st.button(f"Listen for {TRACE_S:g} s", key="dev_listen", icon=":material/hearing:"):
            return
        shown, frames = st.empty(), list[str]()
        with st.spinner(f"Listening to {chosen}"):
            for lines in listen(load_settings(), context.site.id, chosen, TRACE_S):
                if lines:
                    frames += lines
                    shown.code("\n".join(frames[-TRACE_LINES:]), language=None)
        if frames:
            st.caption(f"{len(frames)} frames, times in UTC; an arrow to the right was sent, to the left received.")
        else:
            st.warning(
                "Nothing was heard. The control loop has to run on this machine; on another one use "
                f"`flexergy field trace {context.site.id} {chosen}` there.",
                icon=":material/hearing_disabled:",
            )


def _found(context: PageContext, found: Sequence[DeviceProposal]) -> None:
    st.markdown("**Found in the field**")
    text_table(proposal_table(found, context.site.zone), unbroken=("number", "last seen"), cards=True)
    if context.user.role != ADMINISTRATOR:
        st.caption("An administrator registers them or turns them down.")
        return
    with st.expander("Register a found device, or turn it down"), st.form("dev_decide", border=False):
        chosen = st.selectbox("Device", found, format_func=_name)
        device_id = st.text_input("Id in the site", max_chars=40, placeholder="such as roof-2")
        fields = st.text_area(
            "What it does not tell itself, one name=value a line",
            placeholder="energy_capacity_kwh=200\ntilt_deg=15",
            help="Fields of the asset, meter or charge point in the site's configuration.",
        )
        left, right = st.columns(2)
        register = left.form_submit_button("Register", type="primary", width="stretch")
        reject = right.form_submit_button("Turn down", width="stretch")
    if register or reject:
        _decide(chosen, device_id.strip(), fields, register=register)


def _name(found: DeviceProposal) -> str:
    words = [f"{found.proposal_id}:", PROTOCOL_WORDS.get(found.protocol, found.protocol), found.address, told(found)]
    return " ".join(word for word in words if word)


def _decide(chosen: DeviceProposal, device_id: str, fields: str, *, register: bool) -> None:
    fresh = page_context()
    if fresh.user.role != ADMINISTRATOR:
        st.error("Your role may no longer register devices.")
        return
    try:
        if register:
            lines = [line for line in fields.splitlines() if line.strip()]
            version = fresh.data.approve_device(chosen.proposal_id, device_id, lines, fresh.user.name)
            said = (
                f"{device_id} is registered (version {version} of the site); the control loop takes it up in seconds."
            )
        else:
            fresh.data.reject_device(chosen.proposal_id, fresh.user.name)
            said = f"{chosen.address} was turned down; it is not proposed again."
    except SiteError as error:
        st.error("Nothing was changed.\n" + "\n".join(f"- {problem}" for problem in error.problems))
    except (InvalidDataError, NotFoundError) as error:
        st.error(f"Nothing was changed: {error}")
    else:
        st.session_state[_SAID] = said
        forget_sites()
        st.rerun()

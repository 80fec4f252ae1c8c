"""Overview: what the site does this second, who is in control, and how the day goes against the plan."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, time, timedelta

import polars as pl
import streamlit as st

from dashboards.charts.plan import soc_chart, two_lines_chart
from dashboards.guard import guarded
from dashboards.roles import may_command
from dashboards.session import PageContext, page_context
from dashboards.views.live import Control, controls, in_control, live_image
from dashboards.views.operation import actuators
from dashboards.views.operation_plan import mode_name
from dashboards.views.overview_html import CSS, control_html, live_html
from dashboards.widgets import alarm_list, empty
from dashboards.words import local_time, plain
from flexergy_pipelines.operation.modes import mode_in_force
from flexergy_pipelines.store.commands import EMERGENCY_STOP


def page() -> None:
    """Draw the page."""
    context = page_context()
    st.html(CSS)
    head, button = st.columns([4, 1], vertical_alignment="center")
    head.subheader(context.site.name, anchor=False)
    if may_command(context.user.role) and actuators(context.site):
        with button:
            _emergency_button(context)
    _live()
    with st.spinner("Reading today's measurements …"):
        _today()


@st.fragment(run_every="1s")
@guarded
def _live() -> None:
    context = page_context()
    image = live_image(context.data.live())
    rows = controls(context.data.setpoints())
    stop = context.data.standing_stop()
    if stop is not None:
        since = local_time(stop.created_at, context.site.zone)
        st.error(
            f"**Emergency stop** by {stop.user} since {since}: {plain(stop.reason)}", icon=":material/emergency_home:"
        )
    if image.newest is None:
        empty(
            "No live values yet.",
            "They come once a second as soon as the control loop (`flexergy control`) reaches the site's devices.",
        )
    else:
        turn = st.session_state.get("_turn", 0) + 1
        st.session_state["_turn"] = turn
        control = in_control(rows, context.site, context.now)
        mode = mode_name(mode_in_force(context.data.db, context.site.id, context.now), context.site)
        html = live_html(context.site, image, control, context.now, turn, mode=mode)
        st.markdown(html, unsafe_allow_html=True)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown("**Active alarms**")
        alarm_list(context.data.alarms(), context.site, context.now)
    with right:
        st.markdown("**What commands the plant, and why**")
        _control_table(rows, context)


def _control_table(rows: list[Control], context: PageContext) -> None:
    if not actuators(context.site):
        st.html('<div style="opacity:.8">Nothing at this site can be commanded.</div>')
        return
    if not rows:
        st.html('<div style="opacity:.8">No setpoint has been sent yet: the first follows the first plan.</div>')
        return
    st.html(control_html(rows, context.site, context.now))


def local_day(now: datetime, context: PageContext) -> tuple[datetime, datetime]:
    """Begin and end of the site's present day, 23 to 25 hours long."""
    zone = context.site.zone
    day = now.astimezone(zone).date()
    start = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    return start, end


@st.fragment(run_every="60s")
@guarded
def _today() -> None:
    context = page_context()
    st.markdown("**Today: plan against what was measured**")
    start, end = local_day(context.now, context)
    zone = context.site.zone
    plan = context.data.active_plan(context.now)
    stores = [ess.id for ess in context.site.ess()]
    points = [("pcc", "active_power_kw"), *((ess, "soc") for ess in stores)]
    actual = context.data.readings(start, context.now, points, "15m").drop_nulls("value")
    if plan is None and actual.is_empty():
        empty("No plan and no measurements of today yet.", "The plan comes from the pipeline's first run.")
        return
    places = itertools.cycle(st.columns(2, gap="large"))
    with next(places):
        st.caption("Power at the grid connection, kW (+ import, − export)")
        series = compared(plan.values if plan else None, actual, ("pcc", "active_power_kw"), start, end)
        chart = two_lines_chart(series, ("plan", "measured"), start, end, zone, unit="kW", now=context.now)
        st.altair_chart(chart, width="stretch")
    for ess in context.site.ess():
        with next(places):
            st.caption(f"State of charge of {ess.id}")
            series = compared(plan.values if plan else None, actual, (ess.id, "soc"), start, end)
            chart = soc_chart(series, (ess.soc_min, ess.soc_max), start, end, zone, now=context.now)
            st.altair_chart(chart, width="stretch")


def compared(
    planned: pl.DataFrame | None, actual: pl.DataFrame, point: tuple[str, str], start: datetime, end: datetime
) -> pl.DataFrame:
    """Plan and measurement of one point as one long frame (``series, time, value``)."""
    asset_id, quantity = point
    parts: list[pl.DataFrame] = []
    for name, frame in (("plan", planned), ("measured", actual)):
        if frame is None or frame.is_empty():
            continue
        own = frame.filter(
            (pl.col("asset_id") == asset_id) & (pl.col("quantity") == quantity) & pl.col("time").is_between(start, end)
        )
        parts.append(own.select(pl.lit(name).alias("series"), "time", "value").sort("time"))
    if not parts:
        schema = {"series": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
        return pl.DataFrame(schema=schema)
    return pl.concat(parts)


def _emergency_button(context: PageContext) -> None:
    if st.button("Emergency stop", type="primary", icon=":material/emergency_home:", width="stretch", key="estop"):
        _confirm_stop(context)


@st.dialog("Emergency stop")
def _confirm_stop(context: PageContext) -> None:
    stop_form(context)


def stop_form(context: PageContext) -> None:
    """Ask for a reason, then stop the site or release the stop that stands."""
    stands = context.data.standing_stop()
    if stands is None:
        st.write(
            f"This brings **{context.site.name}** to a stop: every controllable asset to 0 kW, at once, and holds it "
            "there until somebody releases it."
        )
    else:
        waiting = sum(command.quantity != EMERGENCY_STOP for command in context.data.open_commands())
        to = "the plan" if not waiting else f"the {waiting} command(s) by hand that still stand, and to the plan"
        st.write(f"**{context.site.name}** is stopped by {stands.user}. Releasing it hands control back to {to}.")
    reason = st.text_input("Reason (is logged with your name)", max_chars=500, key="estop_reason")
    word = "Stop the site" if stands is None else "Release the stop"
    kind = "primary" if stands is None else "secondary"
    if st.button(word, type=kind, width="stretch", key="estop_go"):
        if len(reason.strip()) < 3:
            st.error("Give a reason of at least 3 letters.")
        else:
            _send(context, reason, active=stands is None)


def _send(context: PageContext, reason: str, *, active: bool) -> None:
    fresh = page_context()
    if not may_command(fresh.user.role):
        st.error("Your role may no longer command this site.")
        return
    context.data.emergency_stop(active=active, reason=reason.strip(), user=fresh.user.name, now=fresh.now)
    st.toast("Emergency stop sent." if active else "Release sent.", icon=":material/check:")
    st.rerun()

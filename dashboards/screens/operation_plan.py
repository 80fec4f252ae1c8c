"""Parts of the page Operation: modes by time, functions with priority and weight, planned interventions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import polars as pl
import streamlit as st

from dashboards.roles import may_command
from dashboards.session import PageContext, page_context
from dashboards.views.operation_plan import (
    GRAVE_MODES,
    function_table,
    functions_from,
    mode_table,
    mode_title,
    mode_words,
    now_sentence,
    outage_table,
    when,
)
from dashboards.widgets import empty, text_table
from flexergy_pipelines.operation.modes import MODES, cancel_mode, list_modes, mode_in_force, schedule_mode
from flexergy_pipelines.operation.outages import cancel_outage, outages_between, plan_outage
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import PlanningSettings, read_settings, save_settings
from flexergy_pipelines.store.errors import StoreError

AHEAD = timedelta(days=60)
_GOALS = {
    None: "as the mode says",
    "cost": "least cost",
    "self_consumption": "own energy first",
    "zero_flow": "no exchange with the grid",
}


def modes(context: PageContext) -> None:
    """The mode in force, what is scheduled, and a form to schedule another."""
    zone, db, site_id = context.site.zone, context.data.db, context.site.id
    st.markdown("**Operation mode**")
    st.markdown(now_sentence(mode_in_force(db, site_id, context.now), context.site))
    entries = list_modes(db, site_id, context.now, context.now + AHEAD)
    if entries:
        text_table(mode_table(entries, zone), unbroken=("from", "to", "mode", "by"))
        st.caption("Where entries overlap, the one that starts later holds.")
        gone = st.selectbox(
            "Take out of the schedule",
            entries,
            index=None,
            format_func=lambda e: f"{mode_title(e.mode)} from {e.starts_at.astimezone(zone):%Y-%m-%d %H:%M}",
            key="mode_cancel",
        )
        if gone is not None and st.button("Take out", key="mode_cancel_go"):
            act(lambda c: cancel_mode(c.data.db, c.site.id, gone.entry_id, user=c.user.name), "Taken out.")
    with st.expander("Schedule a mode"):
        _mode_form(context)


def _mode_form(context: PageContext) -> None:
    zone = context.site.zone
    mode = st.selectbox(
        "Mode", list(MODES), format_func=lambda m: f"{mode_title(m)}: {MODES[m].meaning}", key="mode_kind"
    )
    kind, parameters = MODES[mode], dict[str, float]()
    if kind.parameter:
        pcc = context.site.grid_connection
        most = pcc.import_limit_kw if kind.parameter == "import_kw" else pcc.export_limit_kw
        title = kind.parameter_meaning[:1].upper() + kind.parameter_meaning[1:]
        parameters[kind.parameter] = st.number_input(title, 0.0, float(most), float(most), key=f"mode_{mode}_limit")
    local = context.now.astimezone(zone)
    starts = _moment("From", "at", local, "mode_from", zone)
    ends: datetime | None = None
    if not st.checkbox("Until further notice", key="mode_open"):
        ends = _moment("To", "until", local + timedelta(hours=4), "mode_to", zone)
    reason = st.text_input("Reason (is logged with your name)", max_chars=500, key="mode_reason")
    sure = True
    if mode in GRAVE_MODES:
        st.warning(f"{mode_title(mode)} {mode_words(mode, parameters)}. The plan no longer drives the storage then.")
        sure = st.checkbox("Yes, I mean it", key="mode_sure")
    if st.button("Schedule", type="primary", disabled=not sure, key="mode_go"):
        act(
            lambda c: schedule_mode(
                c.data.db, c.site.id, mode, starts_at=starts, ends_at=ends, parameters=parameters, reason=reason,
                user=c.user.name,
            ),
            "Scheduled. The control loop takes it up at its time; a new plan is being made.",
        )  # fmt: skip


def _moment(day_word: str, clock_word: str, local: datetime, key: str, zone: ZoneInfo) -> datetime:
    """Ask for a local date and time in one row, which a phone shows one below the other."""
    left, right = st.columns(2)
    day = left.date_input(day_word, local.date(), key=f"{key}_day")
    clock = right.time_input(clock_word, local.replace(second=0, microsecond=0).time(), step=900, key=f"{key}_time")
    return when(day, clock, zone)


def functions(context: PageContext) -> None:
    """Functions of the site with their priority and weight, the objective, and how uncertainty is met."""
    st.markdown("**Functions and objective**")
    settings = read_settings(context.data.db, context.site.id)
    if not settings.functions:
        st.caption("Nothing is set: every function has the price of the site's configuration.")
    edited = st.data_editor(
        function_table(settings),
        hide_index=True,
        width="stretch",
        disabled=["function", "meaning"],
        column_config={
            "priority": st.column_config.NumberColumn(min_value=1, max_value=20, step=1, width="small"),
            "weight": st.column_config.NumberColumn(min_value=0.0, max_value=100.0, step=0.1, width="small"),
            "on": st.column_config.CheckboxColumn(width="small"),
        },
        key="functions_table",
    )
    st.caption("Where power is scarce, a function of higher priority (1 is highest) is served before a lower one.")
    left, right = st.columns(2)
    goal = left.selectbox(
        "Before money", list(_GOALS), list(_GOALS).index(settings.goal), format_func=lambda g: _GOALS[g], key="goal"
    )
    ways = get_args(PlanningSettings.model_fields["day_ahead"].annotation)
    way = right.selectbox("Day-ahead plan", ways, ways.index(settings.day_ahead), key="day_ahead_way")
    caution = settings.cvar_weight
    if way == "stochastic":
        caution = st.slider("Weight of the worst outcomes", 0.0, 1.0, settings.cvar_weight, 0.05, key="cvar_weight")
    if st.button("Set", key="functions_go"):
        rows = pl.DataFrame(edited).to_dicts()
        act(
            lambda c: save_settings(
                c.data.db,
                c.site.id,
                settings_with(settings, functions=functions_from(rows), goal=goal, day_ahead=way, cvar_weight=caution),
                user=c.user.name,
            ),
            "Set. A new plan is being made.",
        )


def settings_with(settings: PlanningSettings, **changes: object) -> PlanningSettings:
    """Settings with some of them changed, checked again."""
    given: dict[str, Any] = {name: getattr(settings, name) for name in type(settings).model_fields}
    return PlanningSettings(**{**given, **changes})


def interventions(context: PageContext) -> None:
    """Planned interventions: assets that plan and bids do without."""
    zone, db, site_id = context.site.zone, context.data.db, context.site.id
    st.markdown("**Planned interventions**")
    found = outages_between(db, site_id, context.now, context.now + AHEAD)
    if found:
        text_table(outage_table(found, zone), unbroken=("asset", "from", "to"))
        gone = st.selectbox(
            "Take back", found, index=None, format_func=lambda o: f"{o.asset_id}: {o.reason}", key="outage_cancel"
        )
        if gone is not None and st.button("Take back", key="outage_cancel_go"):
            act(lambda c: cancel_outage(c.data.db, c.site.id, gone.outage_id, user=c.user.name), "Taken back.")
    else:
        empty("No intervention is planned.", "Plan one here, so that plan and bids do without the asset.")
    with st.expander("Plan an intervention"):
        names = [asset.id for asset in context.site.assets() if asset.id != context.site.grid_connection.id]
        asset = st.selectbox("Asset", names, key="outage_asset")
        local = context.now.astimezone(zone).replace(second=0, microsecond=0)
        starts = _moment("From", "at", local, "outage_from", zone)
        ends = _moment("To", "until", local + timedelta(hours=4), "outage_to", zone)
        reason = st.text_input("Reason", max_chars=500, key="outage_reason")
        if st.button("Plan it", key="outage_go"):
            act(
                lambda c: plan_outage(
                    c.data.db, c.site.id, asset, starts_at=starts, ends_at=ends, reason=reason, user=c.user.name
                ),
                "Planned. A new plan is being made.",
            )


def act(action: Callable[[PageContext], object], done: str) -> None:
    """Do what was asked as the user is now, and say what came of it."""
    fresh = page_context()  # the role may have changed since the page was drawn
    if not may_command(fresh.user.role):
        st.error("Your role may no longer command this site.")
        return
    try:
        action(fresh)
    except (StoreError, ProblemError) as error:
        st.error(str(error))
        return
    st.success(done)

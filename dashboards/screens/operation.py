"""Operation: modes by time, commands by hand, new plans, planned interventions, functions and their priorities."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboards.guard import guarded
from dashboards.roles import may_command
from dashboards.screens import operation_plan
from dashboards.screens.services import services
from dashboards.session import PageContext, page_context
from dashboards.views.operation import Actuator, actuators, ended, problems, standing
from dashboards.widgets import empty, heading, text_table
from dashboards.words import number


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Operation", wide_note="limits of the plant always rank above what is asked here")
    operation_plan.modes(context)
    _standing()
    left, right = st.columns(2, gap="large")
    with left:
        command_form(context)
    with right:
        replan_form(context)
        operation_plan.interventions(context)
    operation_plan.functions(context)
    services(context)


@st.fragment(run_every="2s")
@guarded
def _standing() -> None:
    context = page_context()
    found = context.data.open_commands()
    st.markdown("**Commands in force**")
    if not found:
        empty("Nothing is commanded by hand.", "The plan drives the site.")
    else:
        text_table(
            standing(found, context.now, context.site.zone),
            unbroken=("asset", "value", "by", "since", "ends in"),
            cards=True,
        )
    last = context.data.ended_commands()
    if last:
        st.markdown("**What became of the last ones**")
        text_table(ended(last, context.site.zone), unbroken=("asset", "value", "by", "at"), cards=True)


def command_form(context: PageContext) -> None:
    """Choose an actuator, a value, how long and why; send it or hand the actuator back."""
    st.markdown("**By hand**")
    choices = actuators(context.site)
    if not choices:
        empty("This site has nothing to command.", "Actuators are declared in the site's configuration.")
        return
    chosen = st.selectbox("Actuator", choices, format_func=lambda a: a.title, key="cmd_actuator")
    value = st.number_input(
        f"Value ({chosen.unit}; {chosen.hint})",
        value=0.0 if chosen.minimum <= 0 <= chosen.maximum else chosen.minimum,
        step=1.0,
        help=f"{number(chosen.minimum)} to {number(chosen.maximum)} {chosen.unit}",
        key=f"cmd_value_{chosen.asset_id}",
    )
    minutes = st.number_input("Ends by itself after (minutes)", value=30, step=5, key="cmd_minutes")
    reason = st.text_input("Reason (is logged with your name)", max_chars=500, key="cmd_reason")
    send, back = st.columns(2)
    if send.button("Send", type="primary", width="stretch", key="cmd_send"):
        wrong = problems(chosen, value, int(minutes), reason)
        if wrong:
            st.error("\n\n".join(wrong))
        else:
            _send(chosen, value, int(minutes), reason)
    if back.button("Hand back to the plan", width="stretch", key="cmd_back"):
        _send(chosen, None, 5, reason.strip() or "handed back")


def _send(actuator: Actuator, value: float | None, minutes: int, reason: str) -> None:
    fresh = page_context()  # the role may have changed since the page was drawn
    if not may_command(fresh.user.role):
        st.error("Your role may no longer command this site.")
        return
    fresh.data.command(
        actuator.asset_id,
        actuator.quantity,
        value,
        reason=reason.strip(),
        user=fresh.user.name,
        until=fresh.now + timedelta(minutes=minutes),
    )
    what = "handed back" if value is None else f"{number(value)} {actuator.unit} for {minutes} min"
    st.success(f"{actuator.title}: {what}. The control loop takes it up within seconds.")


def replan_form(context: PageContext) -> None:
    """Ask the planner for a new plan now."""
    st.markdown("**New plan**")
    st.write("Plans come by themselves every hour. Ask for one now when something changed that the plan cannot know.")
    reason = st.text_input("Reason", max_chars=500, key="replan_reason")
    if st.button("Plan anew", key="replan_go"):
        fresh = page_context()
        if len(reason.strip()) < 3:
            st.error("Give a reason of at least 3 letters.")
        elif not may_command(fresh.user.role):
            st.error("Your role may no longer ask for plans.")
        else:
            context.data.replan(f"{fresh.user.name}: {reason.strip()}")
            st.success("Asked for. The new plan appears on the page Plan when it is made.")

"""Plan: the schedule in force, what it costs against no storage, and how good the solver says it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl
import streamlit as st

from dashboards.charts.plan import balance_frame, cost_chart, price_chart, schedule_chart, soc_chart, two_lines_chart
from dashboards.screens import plan_reasons
from dashboards.session import PageContext, page_context
from dashboards.views.plan import (
    cost_frame,
    kinds_of,
    next_hour,
    plan_difference,
    planned_powers,
    planned_prices,
    planned_soc,
    saving,
)
from dashboards.widgets import empty, heading, tiles
from dashboards.words import SETPOINT_WORDS, duration, euro, local_time, number, percent
from flexergy_pipelines.store.plans import ActivePlan, PlanRecord, StoredPlan


def page() -> None:
    """Draw the page."""
    context = page_context()
    plan = context.data.active_plan(context.now)
    if plan is None:
        heading(context, "Plan")
        empty(
            "No plan is in force.",
            f"One is made each day at {context.site.operation.day_ahead_time} site time and every "
            f"{context.site.operation.intraday_period_minutes} minutes in between, once forecasts are there.",
        )
        return
    record = plan.record
    age = duration((context.now - record.created_at).total_seconds())
    kind = record.kind.replace("_", "-")
    heading(context, "Plan", wide_note=f"{kind} plan, version {plan.version}, made {age} ago")
    _figures(record)
    _violations(record)
    _charts(plan.values, record, context)
    plan_reasons.why(plan, context)
    plan_reasons.offers(plan, context)
    plan_reasons.cars(plan, context)
    st.markdown("**Setpoints of the next hour**")
    _next_hour(plan.values, context)
    plan_reasons.followed(plan, context)
    plan_reasons.worth(context)
    _history(context, plan)


def _figures(record: PlanRecord) -> None:
    gain = saving(record.objective_eur, record.no_storage_cost_eur)
    gap = "no gap stated" if record.gap is None else f"gap to the best possible {percent(record.gap, 2)}"
    tiles(
        [
            ("Cost of the plan", euro(record.objective_eur), _cost_note(record.objective_eur)),
            ("Without storage", euro(record.no_storage_cost_eur), "same forecasts and prices"),
            ("Saved by storage", euro(gain[0] if gain else None), percent(gain[1]) if gain else ""),
            ("Solution", record.status.replace("_", " "), gap),
        ]
    )


def _cost_note(cost_eur: float | None) -> str:
    note = "battery wear included"
    return f"{note}; below zero is earned" if cost_eur is not None and cost_eur < 0 else note


def _violations(record: PlanRecord) -> None:
    if not record.violations:
        return
    st.warning(f"{len(record.violations)} limit(s) could not be kept; the plan bends them as little as possible.")
    st.dataframe(pl.DataFrame([_flat(item) for item in record.violations], strict=False), hide_index=True)


def _flat(item: dict[str, object]) -> dict[str, str]:
    return {str(key): number(value, 2) if isinstance(value, float) else str(value) for key, value in item.items()}


def _charts(values: pl.DataFrame, record: PlanRecord, context: PageContext) -> None:
    start, end, zone = record.start, record.end, context.site.zone
    st.markdown("**Who feeds the site and who takes from it**")
    balance = balance_frame(planned_powers(values), kinds_of(context.site), record.step_minutes)
    st.altair_chart(schedule_chart(balance, start, end, zone, now=context.now), width="stretch")
    left, right = st.columns(2, gap="large")
    soc, prices = planned_soc(values), planned_prices(values)
    with left:
        st.markdown("**State of charge**")
        if soc.is_empty():
            empty("This plan has no storage.", "")
        else:
            limits = {(ess.soc_min, ess.soc_max) for ess in context.site.ess()}
            band = next(iter(limits)) if len(limits) == 1 else None
            st.altair_chart(soc_chart(soc, band, start, end, zone, now=context.now), width="stretch")
    with right:
        st.markdown("**Prices the plan reckons with**")
        if prices.is_empty():
            empty("This plan names no prices.", "")
        else:
            st.altair_chart(price_chart(prices, start, end, zone, now=context.now), width="stretch")
    costs = cost_frame(record.costs)
    if not costs.is_empty():
        st.markdown("**Cost by part**")
        st.altair_chart(cost_chart(costs), width="stretch")


def _next_hour(values: pl.DataFrame, context: PageContext) -> None:
    table = next_hour(values, context.now)
    times = [column for column in table.columns if column not in {"asset_id", "quantity"}]
    if not times:
        empty("The plan has no setpoints for the next hour.", "The next plan brings them.")
        return
    st.dataframe(_named(table, times, context), hide_index=True, width="stretch")
    st.caption("Storage: + discharges, − charges. A limit is the most the asset may produce or take.")


def _history(context: PageContext, plan: ActivePlan) -> None:
    st.markdown("**Earlier plans**")
    earlier = [head for head in context.data.plan_heads(30) if head.plan_id != plan.plan_id]
    st.download_button(
        "Download this plan as CSV",
        plan.values.sort("asset_id", "quantity", "time").write_csv(),
        file_name=f"{context.site.id}-plan-{plan.version}.csv",
        mime="text/csv",
        icon=":material/download:",
    )
    if not earlier:
        empty("This is the first plan of the site.", "Later ones can be compared with it here.")
        return
    zone = context.site.zone
    chosen = st.selectbox(
        "Compare with",
        earlier,
        format_func=lambda head: _plan_title(head, zone),
        key="plan_compare",
    )
    change = plan_difference(context.data.plan_values(chosen.plan_id), plan.values, context.site)
    if change.is_empty():
        empty("The two plans have no time in common.", "")
        return
    assets = change.filter(pl.col("change_kw").abs() > 0.05)["asset_id"].unique().sort().to_list()
    if not assets:
        st.success("Both plans do the same in the time they share.")
        return
    asset = st.selectbox("Asset", assets, key="plan_compare_asset")
    own = change.filter(pl.col("asset_id") == asset)
    series = pl.concat(
        [
            own.select(pl.lit(f"version {version}").alias("series"), "time", pl.col(column).alias("value"))
            for version, column in ((chosen.version, "old_kw"), (plan.version, "new_kw"))
        ]
    )
    start = own["time"].min()
    end = own["time"].max()
    if isinstance(start, datetime) and isinstance(end, datetime) and end > start:
        names = (f"version {chosen.version}", f"version {plan.version}")
        chart = two_lines_chart(series, names, start, end, zone, unit="kW", now=context.now)
        st.altair_chart(chart, width="stretch")
    moved = own.select((pl.col("change_kw").abs() * plan.record.step_minutes / 60).sum()).item()
    st.caption(f"{asset}: {number(moved)} kWh are planned otherwise than before.")


def _plan_title(head: StoredPlan, zone: ZoneInfo) -> str:
    kind = head.record.kind.replace("_", "-")
    return f"version {head.version}: {kind}, made {local_time(head.record.created_at, zone)}"


def _named(table: pl.DataFrame, times: Sequence[str], context: PageContext) -> pl.DataFrame:
    words = {
        quantity: f"{word} ({'kvar' if quantity.endswith('_kvar') else 'kW'})"
        for quantity, word in SETPOINT_WORDS.items()
    }
    return table.select(
        pl.col("asset_id").alias("asset"),
        pl.col("quantity").replace(words).alias("what"),
        *(pl.col(t).round(1).alias(local_time(datetime.fromisoformat(t), context.site.zone)) for t in times),
    )

"""Parts of the page Plan: why it does what it does, what it offers, how it is followed and what plans were worth."""

from __future__ import annotations

from datetime import timedelta
from html import escape

import altair as alt
import polars as pl
import streamlit as st

from dashboards.charts import Layered
from dashboards.charts.plan import two_lines_chart
from dashboards.session import PageContext
from dashboards.views.plan_why import (
    bid_table,
    car_table,
    interval_limits,
    interval_times,
    made_from,
    mwh_price,
    reason_table,
    reasons_at,
    unit_table,
    value_at,
    value_days,
    value_sentence,
)
from dashboards.widgets import empty, text_table, tiles
from dashboards.words import local_time
from flexergy_pipelines.store.plans import ActivePlan

EARNED, MISSED = "#2E86AB", "#B7C4CF"
VALUE_DAYS = 31


def why(plan: ActivePlan, context: PageContext) -> None:
    """What an interval of the plan is bound by, and every stretch with its reason."""
    inputs, zone = plan.record.inputs, context.site.zone
    st.markdown("**Why**")
    for line in made_from(inputs):
        st.caption(line)
    times = interval_times(inputs)
    if not times:
        empty("This plan tells no reasons.", "They come with the next plan that the solver finishes.")
        return
    present = max((moment for moment in times if moment <= context.now), default=times[0])
    at = st.select_slider(
        "Interval", times, value=present, format_func=lambda moment: local_time(moment, zone), key="plan_why_at"
    )
    price, limits = interval_limits(inputs, at)
    stored = [
        (
            f"Stored in {ess.id}",
            mwh_price(value_at(plan.values, ess.id, "marginal_value_eur_per_kwh", at)),
            "a kWh more",
        )
        for ess in context.site.ess()
    ]
    tiles([("Energy is worth", mwh_price(price), local_time(at, zone)), *stored])
    sentences = reasons_at(inputs, at)
    if sentences:
        st.html("".join(f"<div style='margin:.2rem 0'>{escape(text)}</div>" for text in sentences))
    else:
        st.caption("Nothing is moved or held back in this interval.")
    if limits.is_empty():
        st.caption("No limit binds in this interval.")
    else:
        text_table(limits, unbroken=("one more unit saves",))
    with st.expander("All reasons of the rest of the plan"):
        text_table(reason_table(inputs, zone, context.now), unbroken=("from", "to", "asset"))


def offers(plan: ActivePlan, context: PageContext) -> None:
    """Bids with quantity and price, and what each unit can give; nothing where no service is offered."""
    inputs, zone = plan.record.inputs, context.site.zone
    if not inputs.get("bids"):
        return
    st.markdown("**Bids**")
    if bid_table(inputs["bids"], zone).is_empty():
        empty("No service is worth a bid in this plan.", "What is offered stands on the page Operation.")
        return
    text_table(
        bid_table(inputs["bids"], zone), unbroken=("period", "units", "bid", "at least", "price", "sold", "earns")
    )
    st.caption(
        "Periods without a bid are left out. “At least” is what holding the power costs the plan: "
        "below it the bid would lose money. “Price” is the market’s, or the one that was set for the service."
    )
    with st.expander("What each unit can give"):
        text_table(unit_table(inputs["units"], zone), unbroken=("period", "largest", "free", "held"))


def cars(plan: ActivePlan, context: PageContext) -> None:
    """When each car charges; nothing where charging is planned as one load."""
    charging = plan.record.inputs.get("charging")
    if not charging:
        return
    st.markdown("**Cars**")
    text_table(
        car_table(charging, context.site.zone),
        unbroken=("charge point", "car", "stays until", "wants", "gets", "charges", "largest"),
    )
    st.caption(
        "The charging manager is sent one limit, the sum of these, while a car waits; it shares it among the cars."
    )


def followed(plan: ActivePlan, context: PageContext) -> None:
    """Planned against measured power since the plan began."""
    start, end = plan.record.start, min(context.now, plan.record.end)
    st.markdown("**Plan and what came of it**")
    names = [asset.id for asset in context.site.assets()]
    order = [context.site.grid_connection.id, *(ess.id for ess in context.site.ess())]
    asset = st.selectbox("Asset", [*order, *(n for n in names if n not in order)], key="plan_followed_asset")
    if end - start < timedelta(minutes=plan.record.step_minutes):
        empty("The plan has just begun.", "What was measured is drawn beside it from the next interval on.")
        return
    measured = context.data.readings(start, end, [(asset, "active_power_kw")], f"{plan.record.step_minutes}m")
    planned = plan.values.filter((pl.col("asset_id") == asset) & (pl.col("quantity") == "active_power_kw"))
    frame = pl.concat(
        [
            part.filter((pl.col("time") >= start) & (pl.col("time") < end)).select(
                pl.lit(name).alias("series"), "time", "value"
            )
            for name, part in (("planned", planned), ("measured", measured))
        ]
    ).drop_nulls()
    if frame.filter(pl.col("series") == "measured").is_empty():
        empty(f"Nothing was measured of {asset} since the plan began.", "")
        return
    chart = two_lines_chart(frame, ("planned", "measured"), start, end, context.site.zone, unit="kW", now=context.now)
    st.altair_chart(chart, width="stretch")


def worth(context: PageContext) -> None:
    """What storage earned day by day, against what was possible with the day known in advance."""
    st.markdown("**What the plans were worth**")
    first = context.now - timedelta(days=VALUE_DAYS)
    days = value_days(context.data.kpis("day", first, context.now), context.site.zone)
    if days.is_empty():
        empty("No day was judged yet.", "Each day is judged at 00:30 of the next, once it was measured.")
        return
    st.write(value_sentence(days))
    st.altair_chart(_worth_chart(days), width="stretch")


def _worth_chart(days: pl.DataFrame) -> Layered:
    shown = days.with_columns(pl.col("captured").fill_null(0.0), pl.col("day").str.slice(5).alias("label"))
    axis = alt.X("label:O", title=None, axis=alt.Axis(labelAngle=-45))
    tips = [
        alt.Tooltip("day:N"),
        alt.Tooltip("earned_eur:Q", format=".2f", title="earned (EUR)"),
        alt.Tooltip("possible_eur:Q", format=".2f", title="possible (EUR)"),
        alt.Tooltip("captured:Q", format=".0%"),
    ]
    base = alt.Chart(shown)
    possible = base.mark_bar(color=MISSED).encode(x=axis, y=alt.Y("possible_eur:Q", title="EUR"), tooltip=tips)
    earned = base.mark_bar(color=EARNED, size=10).encode(x=axis, y=alt.Y("earned_eur:Q", title="EUR"), tooltip=tips)
    return alt.layer(possible, earned).properties(height=220)

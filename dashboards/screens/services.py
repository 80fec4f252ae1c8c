"""Part of the page Operation: the services that the site offers at the markets."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import streamlit as st

from dashboards.screens.operation_plan import act, settings_with
from dashboards.session import PageContext
from dashboards.views.services import (
    BLOCK_HOURS,
    DIRECTIONS,
    PRICE_SOURCES,
    PRODUCTS,
    direction_of,
    largest_kw,
    offer_from,
    offer_sentence,
    offer_table,
    with_offer,
    without_offer,
)
from dashboards.widgets import empty, text_table
from dashboards.words import number
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import PlanningSettings, ServiceOffer, read_settings, save_settings

NEW = "a new service"
_Change = Callable[[Sequence[ServiceOffer]], tuple[ServiceOffer, ...]]


def services(context: PageContext) -> None:
    """What is offered, a form that sets an offer, and one that takes it back."""
    st.markdown("**Services at the markets**")
    if not context.site.ess():
        empty("This site has no storage to offer.", "Services are held by storage.")
        return
    settings = read_settings(context.data.db, context.site.id)
    if settings.services:
        text_table(offer_table(settings.services), unbroken=("service", "units", "at most", "blocks"), cards=True)
        if not settings.enabled("services", otherwise=True):
            st.warning("The function “services” is off: nothing is bid until it is on again.")
    else:
        empty("No service is offered.", "Set one here; the plan then shows what to bid, and from what price on.")
    with st.expander("Set a service"):
        _form(context, settings)
    if settings.services:
        with st.expander("Take a service back"):
            _take_back(settings)


def _form(context: PageContext, settings: PlanningSettings) -> None:
    known = {offer.id: offer for offer in settings.services}
    chosen = st.selectbox("Which", [NEW, *known], key="service_which")
    before = known.get(chosen)
    key = f"service_{before.id if before else 'new'}"
    shown = before or ServiceOffer(id="fcr", product="fcr", symmetric=True, block_minutes=240, duration_minutes=30)
    # Columns pair by pair: on a phone they stand below each other in this order.
    left, right = st.columns(2)
    name = shown.id if before else left.text_input("Name", "", max_chars=40, key=f"{key}_id", placeholder="fcr-night")
    product = right.selectbox(
        "Product", list(PRODUCTS), list(PRODUCTS).index(shown.product), format_func=PRODUCTS.__getitem__,
        key=f"{key}_product",
    )  # fmt: skip
    ways = list(DIRECTIONS)
    left, right = st.columns(2)
    direction = left.selectbox(
        "Direction", ways, ways.index(direction_of(shown)), format_func=DIRECTIONS.__getitem__, key=f"{key}_direction"
    )
    stores = [ess.id for ess in context.site.ess()]
    units = right.multiselect("Units", stores, list(shown.providers) or stores, key=f"{key}_units")
    most = largest_kw(context.site, units)
    left, right = st.columns(2)
    quantity = left.number_input(
        "Largest quantity (kW)", value=float(shown.max_bid_kw or most), step=1.0, key=f"{key}_most",
        help=f"above 0 to {number(most)} kW, the rating of the units",
    )  # fmt: skip
    hours = sorted({*BLOCK_HOURS, shown.block_minutes / 60})
    blocks = right.selectbox(
        "Block (hours, counted from midnight)", hours, hours.index(shown.block_minutes / 60),
        format_func=lambda hour: f"{hour:g} h", key=f"{key}_blocks",
    )  # fmt: skip
    sources = list(PRICE_SOURCES)
    left, right = st.columns(2)
    source = left.selectbox(
        "Price", sources, sources.index(shown.price_source), format_func=PRICE_SOURCES.__getitem__, key=f"{key}_source"
    )
    price = right.number_input(
        "Set price (EUR per MW and hour)" if source == "fixed" else "Where the market tells none (EUR per MW and hour)",
        value=shown.price_eur_per_kw_h * 1000, step=1.0, key=f"{key}_price",
    )  # fmt: skip
    left, right = st.columns(2)
    least = left.number_input("Smallest bid (kW)", value=shown.min_bid_kw, step=1.0, key=f"{key}_least")
    step = right.number_input("Bid step (kW, 0: any)", value=shown.bid_step_kw, step=1.0, key=f"{key}_step")
    left, right = st.columns(2)
    lasts = left.number_input(
        "Must last (minutes)", value=shown.duration_minutes, step=15, key=f"{key}_lasts", help="0 to 1440"
    )
    gate = right.number_input(
        "Gate closes (hours before)", value=shown.gate_closes_minutes / 60, step=1.0, key=f"{key}_gate", help="0 to 48"
    )
    others = [one for one in known if one != shown.id]
    excludes = st.multiselect("Not together with", others, [o for o in shown.excludes if o in others], key=f"{key}_not")
    try:
        if not units:
            raise ProblemError(["units: choose at least one"])
        offer = offer_from(
            {
                "id": name, "product": product, "direction": direction, "providers": units, "max_bid_kw": quantity,
                "block_hours": blocks, "price_source": source, "price_eur_per_mw_h": price, "min_bid_kw": least,
                "bid_step_kw": step, "duration_minutes": lasts, "gate_hours": gate, "excludes": excludes,
            },
            before,
        )  # fmt: skip
        if before is None and offer.id in known:
            raise ProblemError([f"{offer.id}: is offered already; choose it above to change it"])
    except ProblemError as error:
        if name:
            st.error(str(error))
        else:
            st.caption("Give the service a name.")
        return
    st.info(f"You are about to offer {offer_sentence(offer)}")
    # Other terms are another question: a confirmation does not carry over to them.
    terms = zlib.crc32(offer.model_dump_json().encode())
    sure = st.checkbox("Yes, offer it with these terms", key=f"{key}_sure_{terms}")
    if st.button("Set the service", type="primary", disabled=not sure, key=f"{key}_go"):
        # What others set meanwhile stays: only this offer is put into the settings as they are now.
        act(lambda c: _save(c, lambda offers: with_offer(offers, offer)), "Set. A new plan is being made.")


def _take_back(settings: PlanningSettings) -> None:
    name = st.selectbox("Service", [offer.id for offer in settings.services], key="service_back")
    st.caption("Power that was sold is held only while its service stands here: take it back after its last period.")
    sure = st.checkbox("Yes, offer it no longer", key="service_back_sure")
    if st.button("Take it back", disabled=not sure, key="service_back_go"):
        act(lambda c: _save(c, lambda offers: without_offer(offers, name)), "Taken back. A new plan is being made.")


def _save(context: PageContext, change: _Change) -> None:
    db, site_id = context.data.db, context.site.id
    now = read_settings(db, site_id)
    save_settings(db, site_id, settings_with(now, services=change(now.services)), user=context.user.name)

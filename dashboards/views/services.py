"""View model of the services that a site offers at the markets, and of the form that sets one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dashboards.views.plan_why import held_price
from dashboards.words import number
from flexergy_pipelines.grid import Site
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import ServiceOffer

PRODUCTS = {
    "fcr": "FCR",
    "afrr": "aFRR",
    "mfrr": "mFRR",
    "capacity": "Capacity market",
    "congestion": "Congestion management",
    "demand_response": "Demand response",
}
DIRECTIONS = {
    "symmetric": "up and down, the same power",
    "both": "up and down, each for itself",
    "up": "up (more into the grid)",
    "down": "down (less into the grid)",
}
BLOCK_HOURS = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 24.0)
PRICE_SOURCES = {"market": "the market's, as it tells it", "fixed": "the price set here"}
_COLUMNS = ("service", "product", "units", "at most", "blocks", "price", "terms")


def offer_table(offers: Sequence[ServiceOffer]) -> pl.DataFrame:
    """What is offered, as a table of text."""
    rows = [
        {
            "service": offer.id,
            "product": f"{PRODUCTS[offer.product]}, {direction_of(offer)}",
            "units": ", ".join(offer.providers) or "all storage",
            "at most": "what is free" if offer.max_bid_kw is None else f"{number(offer.max_bid_kw)} kW",
            "blocks": f"{number(offer.block_minutes / 60, 2).rstrip('0').rstrip('.')} h",
            "price": _price(offer),
            "terms": _terms(offer),
        }
        for offer in offers
    ]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in _COLUMNS])


def direction_of(offer: ServiceOffer) -> str:
    """One of `DIRECTIONS`."""
    if offer.symmetric:
        return "symmetric"
    return "both" if offer.up and offer.down else "up" if offer.up else "down"


def _price(offer: ServiceOffer) -> str:
    own = held_price(offer.price_eur_per_kw_h)
    if offer.price_source == "fixed":
        return f"{own}, set"
    return f"market, else {own}" if offer.price_eur_per_kw_h > 0 else "market"


def _terms(offer: ServiceOffer) -> str:
    parts = [f"lasts {offer.duration_minutes} min"]
    if offer.min_bid_kw:
        parts.append(f"from {number(offer.min_bid_kw)} kW")
    if offer.bid_step_kw:
        parts.append(f"in steps of {number(offer.bid_step_kw)} kW")
    if offer.gate_closes_minutes:
        parts.append(f"gate closes {number(offer.gate_closes_minutes / 60)} h before")
    if offer.excludes:
        parts.append(f"not together with {', '.join(offer.excludes)}")
    return ", ".join(parts)


def largest_kw(site: Site, providers: Sequence[str]) -> float:
    """The most that the units (all storage where none is named) can give or take together (kW)."""
    chosen = [ess for ess in site.ess() if not providers or ess.id in providers]
    return sum(max(ess.max_charge_kw, ess.max_discharge_kw) for ess in chosen)


def offer_from(form: Mapping[str, Any], before: ServiceOffer | None = None) -> ServiceOffer:
    """The offer that a filled form says; terms that it does not ask for are kept from `before`.

    Raises
    ------
    ProblemError
        One line for each value that is wrong.
    """
    name = str(form["id"]).strip()
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ProblemError([f"name '{name}': give 1 to 40 letters, digits, - or _"])
    if len(name) > 40:
        raise ProblemError([f"name '{name[:40]}…': is longer than 40 letters"])
    direction = form["direction"]
    most = float(form["max_bid_kw"])
    if most <= 0:
        raise ProblemError([f"{name}: largest quantity {number(most)} kW must be above 0"])
    kept: dict[str, Any] = (
        {} if before is None else {key: getattr(before, key) for key in ("activation_up", "activation_down")}
    )
    return ServiceOffer(
        **kept,
        id=name,
        product=form["product"],
        up=direction != "down",
        down=direction != "up",
        symmetric=direction == "symmetric",
        block_minutes=round(float(form["block_hours"]) * 60),
        gate_closes_minutes=round(float(form["gate_hours"]) * 60),
        duration_minutes=int(form["duration_minutes"]),
        min_bid_kw=float(form["min_bid_kw"]),
        bid_step_kw=float(form["bid_step_kw"]),
        max_bid_kw=most,
        price_source=form["price_source"],
        price_eur_per_kw_h=float(form["price_eur_per_mw_h"]) / 1000.0,
        providers=tuple(form["providers"]),
        excludes=tuple(form["excludes"]),
    )


def with_offer(offers: Sequence[ServiceOffer], offer: ServiceOffer) -> tuple[ServiceOffer, ...]:
    """The offers with one of them set: in the place of its namesake, else at the end."""
    if any(one.id == offer.id for one in offers):
        return tuple(offer if one.id == offer.id else one for one in offers)
    return (*offers, offer)


def without_offer(offers: Sequence[ServiceOffer], name: str) -> tuple[ServiceOffer, ...]:
    """The offers without one, which then excludes no other."""
    return tuple(
        one.model_copy(update={"excludes": tuple(other for other in one.excludes if other != name)})
        for one in offers
        if one.id != name
    )


def offer_sentence(offer: ServiceOffer) -> str:
    """What a confirmation says."""
    return (
        f"{PRODUCTS[offer.product]} as {offer.id}: up to {number(offer.max_bid_kw or 0.0)} kW, "
        f"{DIRECTIONS[direction_of(offer)]}, in blocks of {offer.block_minutes / 60:g} h, "
        f"by {', '.join(offer.providers) or 'all storage'}; price: {_price(offer)}; {_terms(offer)}."
    )

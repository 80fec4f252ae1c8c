"""What an operator sets for planning: functions, their priorities and weights, the objective, services, uncertainty.

The settings last set count; a site without any is planned as its file says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec, explain
from flexergy_pipelines.optimization.specs_base import AssetId, Fraction, NonNegative

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

FunctionName = Literal[
    "ev_charging", "load_supply", "peak_shaving", "battery_life", "renewables", "services", "reserve"
]
FUNCTION_MEANINGS: dict[str, str] = {
    "ev_charging": "cars get the energy they ask for",
    "load_supply": "controllable loads are not curtailed",
    "peak_shaving": "the month's peak is kept low",
    "battery_life": "battery wear is avoided",
    "renewables": "renewable energy is not curtailed",
    "services": "power is offered at the markets",
    "reserve": "spinning reserve is held for what forecasts miss",
}
RENEWABLES_PRICE_EUR_PER_KWH = 0.05
"""Price of curtailed renewable energy at weight 1."""


class Function(Spec):
    """One function of the site, in the order of priority that the list of functions gives.

    Attributes
    ----------
    name : str
        One of `FUNCTION_MEANINGS`.
    enabled : bool
        Whether the plan does it at all.
    weight : float
        Factor on its price: 0 ignores it, 1 takes it at its price. Where power is scarce, what stands earlier in the
        list is priced above what stands later, whatever the weights.
    """

    name: FunctionName
    enabled: bool = True
    weight: Annotated[float, Field(ge=0, le=100)] = 1.0


class ServiceOffer(Spec):
    """A product that the site may offer, in the terms of its market.

    Attributes
    ----------
    product : str
        As the market names it; its prices are read from the store.
    block_minutes : int
        Length of an auction period, counted from local midnight.
    gate_closes_minutes : int
        How long before its start a period takes no more bids.
    price_source : {"market", "fixed"}
        Whether the market's price counts where it has told one, or the set price always.
    price_eur_per_kw_h : float
        The set price; of a product priced by its market, taken where that has told none.
    """

    id: AssetId
    product: Literal["fcr", "afrr", "mfrr", "capacity", "congestion", "demand_response"]
    up: bool = True
    down: bool = True
    symmetric: bool = False
    block_minutes: Annotated[int, Field(ge=5, le=1440)] = 240
    gate_closes_minutes: Annotated[int, Field(ge=0, le=2880)] = 0
    duration_minutes: Annotated[int, Field(ge=0, le=1440)] = 60
    min_bid_kw: NonNegative = 0.0
    bid_step_kw: NonNegative = 0.0
    max_bid_kw: NonNegative | None = None
    activation_up: Fraction = 0.0
    activation_down: Fraction = 0.0
    price_source: Literal["market", "fixed"] = "market"
    price_eur_per_kw_h: NonNegative = 0.0
    providers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    excludes: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if not (self.up or self.down):
            problems.append(f"{self.id}: offers neither up nor down; at least one must be true")
        if self.symmetric and not (self.up and self.down):
            problems.append(f"{self.id}: symmetric needs both up and down")
        if self.max_bid_kw is not None and self.max_bid_kw < max(self.min_bid_kw, self.bid_step_kw):
            problems.append(
                f"{self.id}: max_bid_kw {self.max_bid_kw:g} is below the least bid "
                f"{max(self.min_bid_kw, self.bid_step_kw):g}, so that nothing could ever be bid"
            )
        if self.price_source == "fixed" and self.price_eur_per_kw_h <= 0:
            problems.append(f"{self.id}: price_eur_per_kw_h must be above 0 where the price is fixed")
        if 1440 % self.block_minutes:
            problems.append(f"{self.id}: block_minutes {self.block_minutes} must divide a day of 1440 minutes")
        if problems:
            raise ProblemError(problems)
        return self


class PlanningSettings(Spec):
    """What the operator sets for the planning of a site.

    Attributes
    ----------
    goal : {"cost", "self_consumption", "zero_flow"} or None
        What comes before money; None leaves it to the site's mode.
    functions : tuple of Function
        In order of priority; empty leaves all as the site's file prices them.
    day_ahead : {"deterministic", "stochastic"}
        Whether the plan of the coming day is made for the forecast alone or over scenarios of it.
    scenarios : int
        How many.
    cvar_weight, cvar_level : float
        Weight of the worst outcomes against the expected cost, and which share of the outcomes is not "the worst".
    reserve_with_genset : bool
        Whether running gensets may hold spinning reserve, or the storage alone.
    reserve_minutes : int
        For how long the reserve has to last.
    services : tuple of ServiceOffer
        What may be offered at the markets.
    ev : {"block", "sessions"} or None
        Whether charging is planned as one load, or car by car from the sessions that go on and those that are expected;
        None plans car by car where sessions of the charge points are known.
    replan_price_change_eur_per_kwh : float or None
        A market price that moves by more than this within the plan in force asks for a new plan; None never does.
    replan_forecast_change : float or None
        So does expected energy of the next hours that changes by more than this share; None never does.
    replan_forecast_hours : int
        How many hours these are.
    """

    goal: Literal["cost", "self_consumption", "zero_flow"] | None = None
    functions: Annotated[tuple[Function, ...], Field(strict=False)] = ()
    day_ahead: Literal["deterministic", "stochastic"] = "deterministic"
    scenarios: Annotated[int, Field(ge=2, le=30)] = 8
    cvar_weight: Fraction = 0.0
    cvar_level: Annotated[float, Field(ge=0, le=0.99)] = 0.9
    reserve_with_genset: bool = True
    reserve_minutes: Annotated[int, Field(ge=1, le=240)] = 15
    services: Annotated[tuple[ServiceOffer, ...], Field(strict=False)] = ()
    ev: Literal["block", "sessions"] | None = None
    replan_price_change_eur_per_kwh: Annotated[float, Field(ge=0, le=10)] | None = 0.001
    replan_forecast_change: Annotated[float, Field(gt=0, le=10)] | None = 0.15
    replan_forecast_hours: Annotated[int, Field(ge=1, le=48)] = 6

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for what, names in (
            ("functions", [one.name for one in self.functions]),
            ("services", [one.id for one in self.services]),
        ):
            problems += [
                f"{what}: {name} appears more than once" for name in sorted({n for n in names if names.count(n) > 1})
            ]
        known = {offer.id for offer in self.services}
        for offer in self.services:
            problems += [
                f"{offer.id}: excludes names {name}, which is not offered" for name in set(offer.excludes) - known
            ]
        if problems:
            raise ProblemError(problems)
        return self

    def function(self, name: FunctionName) -> Function | None:
        """The function's setting; None where it is left to the site's file."""
        return next((one for one in self.functions if one.name == name), None)

    def enabled(self, name: FunctionName, *, otherwise: bool) -> bool:
        """Whether a function is on; `otherwise` where nothing is set."""
        found = self.function(name)
        return otherwise if found is None else found.enabled and found.weight > 0

    def weight(self, name: FunctionName) -> float:
        """Weight of a function, 0 where it is off; 1 where nothing is set."""
        found = self.function(name)
        return 1.0 if found is None else found.weight if found.enabled else 0.0


def save_settings(db: TenantStore, site_id: str, settings: PlanningSettings, *, user: str) -> None:
    """Set a site's planning settings, log who did it and ask for a new plan.

    Raises
    ------
    ProblemError
        When a provider is not an ESS of the site, or more is offered than the providers can give.
    """
    from flexergy_pipelines.store.commands import request_replan
    from flexergy_pipelines.store.events import record_event
    from flexergy_pipelines.store.sites import load_site

    stores = {ess.id: max(ess.max_charge_kw, ess.max_discharge_kw) for ess in load_site(db, site_id).ess()}
    wrong = [(offer.id, name) for offer in settings.services for name in offer.providers if name not in stores]
    if wrong:
        known = ", ".join(sorted(stores)) or "none"
        raise ProblemError(
            [f"{offer}: provider {name} is no storage of the site; known: {known}" for offer, name in wrong]
        )
    if above := [line for offer in settings.services if (line := _above_rating(offer, stores))]:
        raise ProblemError(above)
    text = settings.model_dump_json()
    with db.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO planning_settings (site_id, settings, changed_by) VALUES (%s, %s::jsonb, %s)",
            (site_id, text, user),
        )
        record_event(db, actor=user, kind="planning_settings_changed", site_id=site_id, detail=json.loads(text))
        request_replan(db, site_id, f"planning settings changed by {user}")


def _above_rating(offer: ServiceOffer, ratings_kw: Mapping[str, float]) -> str:
    """Says where more may be offered than the units can give; empty where not."""
    largest = sum(ratings_kw[name] for name in (offer.providers or ratings_kw))
    if offer.max_bid_kw is None or offer.max_bid_kw <= largest:
        return ""
    units = ", ".join(offer.providers or ratings_kw) or "no storage"
    return f"{offer.id}: max_bid_kw {offer.max_bid_kw:g} is above the {largest:g} kW of {units}"


def read_settings(db: TenantStore, site_id: str) -> PlanningSettings:
    """The settings last set; defaults where none were."""
    with db.begin() as connection:
        found = connection.exec_driver_sql(
            "SELECT settings::text FROM planning_settings WHERE site_id = %s ORDER BY change_id DESC LIMIT 1",
            (site_id,),
        ).scalar_one_or_none()
    return PlanningSettings() if found is None else settings_from_json(found)


def settings_from_json(text: str) -> PlanningSettings:
    """Settings from their JSON.

    Raises
    ------
    ProblemError
        One line for each value that is wrong.
    """
    try:
        return PlanningSettings.model_validate_json(text)
    except ValidationError as error:
        raise ProblemError(explain(error, known=PlanningSettings.model_fields)) from None


def function_names() -> tuple[FunctionName, ...]:
    """Every function there is."""
    return get_args(FunctionName)

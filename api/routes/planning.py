"""Forecasts and plans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.auth import Caller, CallerDep, site_of
from api.models import Forecasts, ForecastSeries, ForecastValue, Plan, PlanHead, PlanHistory, PlanValue
from api.periods import EndQuery, StartQuery, period
from api.problems import ProblemError, field_problem
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store.forecasts import read_forecast
from flexergy_pipelines.store.plans import PlanRecord, list_plans, read_active_plan, read_plan, read_plan_values

router = APIRouter(prefix="/sites/{site_id}", tags=["planning"])

QUANTILES = tuple(f"p{level}" for level in range(10, 100, 10))
FORECAST_KINDS = frozenset({"pv", "wind", "load", "controllable_load", "ev"})
MARKET = ("market", "day_ahead_price_eur_per_kwh", "EUR/kWh")


def targets_of(site: Site) -> list[tuple[str, str, str]]:
    """Asset, quantity and unit of everything that is forecast at a site."""
    powers = [(asset.id, "active_power_kw", "kW") for asset in site.assets() if asset.kind in FORECAST_KINDS]
    return [*powers, MARKET]


@router.get("/forecasts", summary="Forecasts with their quantiles")
def forecasts(
    site_id: str,
    who: CallerDep,
    *,
    start: StartQuery = None,
    end: EndQuery = None,
    asset: Annotated[list[str] | None, Query(description="only these assets; `market` is the day-ahead price")] = None,
    known_at: Annotated[
        datetime | None, Query(description="only what was known then; ISO 8601 with a UTC offset")
    ] = None,
) -> Forecasts:
    """For each interval the newest forecast issued until `known_at` (default: now). Default period: the next 24 h."""
    site = site_of(who, site_id)
    now = datetime.now(UTC)
    day = timedelta(hours=24)
    first, last = period(start, end, now=now, default=day, longest_days=31, ahead=day)
    if known_at is not None and known_at.tzinfo is None:
        raise field_problem("known_at", known_at.isoformat(), "give a time with a UTC offset, as 2026-06-01T00:00:00Z")
    targets = targets_of(site)
    known = [target[0] for target in targets]
    for name in asset or []:
        if name not in known:
            raise field_problem("asset", name, f"one of {', '.join(known)}")
    chosen = [target for target in targets if not asset or target[0] in asset]
    return Forecasts(
        site=site.id,
        start=first,
        end=last,
        known_at=known_at,
        series=[_series(who, site, target, first=first, last=last, known_at=known_at) for target in chosen],
    )


def _series(
    who: Caller, site: Site, target: tuple[str, str, str], *, first: datetime, last: datetime, known_at: datetime | None
) -> ForecastSeries:
    asset_id, quantity, unit = target
    frame = read_forecast(who.db, site.id, asset_id, quantity, first, last, known_at)
    return ForecastSeries(
        asset_id=asset_id,
        quantity=quantity,
        unit=unit,
        values=[
            ForecastValue(
                time=row["time"],
                value=row["value"],
                quantiles={level: row[level] for level in QUANTILES},
                issued_at=row["issued_at"],
                model=row["model"],
                fallback_level=row["fallback_level"],
            )
            for row in frame.sort("time").iter_rows(named=True)
        ],
    )


def _head(plan_id: int, version: int, record: PlanRecord) -> dict[str, Any]:
    return {
        "plan_id": plan_id,
        "version": version,
        "kind": record.kind,
        "created_at": record.created_at,
        "start": record.start,
        "end": record.end,
        "step_minutes": record.step_minutes,
        "status": record.status,
        "gap": record.gap,
        "objective_eur": record.objective_eur,
        "bound_eur": record.bound_eur,
        "no_storage_cost_eur": record.no_storage_cost_eur,
        "costs_eur": record.costs,
        "violations": record.violations,
    }


@router.get("/plan", summary="The plan in force")
def plan(
    site_id: str,
    who: CallerDep,
    at: Annotated[datetime | None, Query(description="moment the plan must cover; default now")] = None,
) -> Plan:
    """The newest plan that covers `at`, with its values (kW, SoC as a fraction, EUR/kWh); 404 when there is none."""
    site = site_of(who, site_id)
    if at is not None and at.tzinfo is None:
        raise field_problem("at", at.isoformat(), "give a time with a UTC offset, as 2026-06-01T00:00:00Z")
    moment = at or datetime.now(UTC)
    found = read_active_plan(who.db, site.id, moment)
    if found is None:
        raise ProblemError(404, f"site {site.id} has no plan that covers {moment.isoformat()}")
    values = [
        PlanValue(asset_id=row["asset_id"], quantity=row["quantity"], time=row["time"], value=row["value"])
        for row in found.values.sort("asset_id", "quantity", "time").iter_rows(named=True)
    ]
    return Plan(**_head(found.plan_id, found.version, found.record), site=site.id, values=values)


@router.get("/plans", summary="The newest plans")
def plans(
    site_id: str, who: CallerDep, limit: Annotated[int, Query(ge=1, le=500, description="how many")] = 20
) -> PlanHistory:
    """Plans without their values, newest first."""
    site = site_of(who, site_id)
    heads = [PlanHead(**_head(p.plan_id, p.version, p.record)) for p in list_plans(who.db, site.id, limit)]
    return PlanHistory(site=site.id, plans=heads)


@router.get("/plans/{plan_id}", summary="One plan of the history")
def one_plan(site_id: str, plan_id: Annotated[int, Path(ge=1, le=2**62)], who: CallerDep) -> Plan:
    """A plan by its id, with its values."""
    site = site_of(who, site_id)
    found = read_plan(who.db, plan_id)
    if found.record.site_id != site.id:
        raise ProblemError(404, f"site {site.id} has no plan {plan_id}")
    values = [
        PlanValue(asset_id=row["asset_id"], quantity=row["quantity"], time=row["time"], value=row["value"])
        for row in read_plan_values(who.db, plan_id).sort("asset_id", "quantity", "time").iter_rows(named=True)
    ]
    return Plan(**_head(found.plan_id, found.version, found.record), site=site.id, values=values)

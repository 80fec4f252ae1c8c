"""Whether what became known since the plan in force was made is worth a new one: market prices, forecasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.optimization.inputs import on_grid
from flexergy_pipelines.optimization.planning_state import POWER
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.settings import PlanningSettings, read_settings

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore
    from flexergy_pipelines.store.plans import PlanRecord

STEP_MINUTES = 15


def replan_on_news(db: TenantStore, site_id: str, now: datetime) -> list[str]:
    """Ask for a new plan where prices or forecasts differ too much from those that the plan in force was made from.

    How much is too much is set in the planning settings. Nothing is asked for where no plan is in force, or where the
    same was asked for already and nobody has planned since.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Present time, aware.

    Returns
    -------
    list of str
        What was asked for, each in a line; empty where the plan still fits.
    """
    from flexergy_pipelines.store.commands import pending_replans, request_replan
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.sites import load_site

    active = read_active_plan(db, site_id, now)
    if active is None or active.record.end <= now:
        return []
    site, settings = load_site(db, site_id), read_settings(db, site_id)
    found = [
        reason
        for reason in (
            _price_news(db, active.record, settings, now),
            _forecast_news(db, site, active.record, settings, now),
        )
        if reason
    ]
    waiting = {request.reason.split(":")[0] for request in pending_replans(db) if request.site_id == site_id}
    asked = [reason for reason in found if reason.split(":")[0] not in waiting]
    for reason in asked:
        request_replan(db, site_id, reason)
    return asked


def _ahead(now: datetime, end: datetime) -> Horizon | None:
    """The quarters of an hour from now to an end; None where there are none."""
    start = now.astimezone(UTC).replace(minute=now.minute // STEP_MINUTES * STEP_MINUTES, second=0, microsecond=0)
    steps = int((end - start) / timedelta(minutes=STEP_MINUTES))
    return None if steps < 1 else Horizon(start=start, step_minutes=STEP_MINUTES, steps=steps)


def _price_news(db: TenantStore, plan: PlanRecord, settings: PlanningSettings, now: datetime) -> str:
    """Says how the market price moved within what is left of the plan; empty where not enough to matter.

    A price that is published now is held against what the plan took for it then: the one known before, or its forecast.
    """
    from flexergy_pipelines.optimization.inputs import PRICE_ASSET, PRICE_QUANTITY
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.prices import read_prices

    horizon = _ahead(now, plan.end)
    if settings.replan_price_change_eur_per_kwh is None or horizon is None:
        return ""
    hour = timedelta(hours=1)

    def known(at: datetime) -> np.ndarray:
        rows = read_prices(db, plan.site_id, horizon.start - hour, horizon.end, known_at=at)
        return on_grid(rows, "price_eur_per_kwh", horizon)

    before, after = known(plan.created_at), known(now)
    if np.isnan(before).any():
        rows = read_forecast(
            db, plan.site_id, PRICE_ASSET, PRICE_QUANTITY, horizon.start - hour, horizon.end, known_at=plan.created_at
        )
        before = np.where(np.isnan(before), on_grid(rows, "value", horizon), before)
    moved = np.abs(after - before)
    if np.isnan(moved).all():
        return ""
    place = int(np.nanargmax(moved))
    if moved[place] <= settings.replan_price_change_eur_per_kwh:
        return ""
    count = int((moved > settings.replan_price_change_eur_per_kwh).sum())
    return (
        f"day-ahead prices changed: {count} quarters of an hour of the plan, most at "
        f"{horizon.times()[place]:%H:%M} UTC from {before[place] * 1000:.1f} to {after[place] * 1000:.1f} EUR/MWh"
    )


def _forecast_news(db: TenantStore, site: Site, plan: PlanRecord, settings: PlanningSettings, now: datetime) -> str:
    """Says how expected energy of the next hours changed; empty where not enough to matter.

    The energy by which the forecasts of all sources and loads differ from those the plan knew, either way, as a share
    of the energy that these expected.
    """
    from flexergy_pipelines.store.forecasts import read_forecast

    horizon = _ahead(now, min(plan.end, now + timedelta(hours=settings.replan_forecast_hours)))
    if settings.replan_forecast_change is None or horizon is None:
        return ""
    hours = STEP_MINUTES / 60
    total, changes = 0.0, dict[str, float]()
    for asset in (*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks()):
        before, after = (
            on_grid(
                read_forecast(db, site.id, asset.id, POWER, horizon.start, horizon.end, known_at=at), "value", horizon
            )
            for at in (plan.created_at, now)
        )
        both = ~(np.isnan(before) | np.isnan(after))
        total += float(np.abs(before[both]).sum()) * hours
        changes[asset.id] = float((after - before)[both].sum()) * hours
    moved = sum(abs(change) for change in changes.values())
    if total <= 0 or moved <= settings.replan_forecast_change * total:
        return ""
    name = max(changes, key=lambda one: abs(changes[one]))
    span = horizon.steps * hours
    return (
        f"forecasts changed: {moved / total:.0%} of the energy of the next {span:.0f} h, "
        f"most of {name} ({changes[name]:+.0f} kWh)"
    )

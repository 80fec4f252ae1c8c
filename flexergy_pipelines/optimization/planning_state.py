"""State of a site at the start of a plan, from live values, readings and what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from flexergy_pipelines.operation.month_peak import billing_start, peak_so_far
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.site_problem import LoadHistory, SiteState
from flexergy_pipelines.optimization.usual_peaks import read_peaks_within_reach

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

POWER = "active_power_kw"
STALE_AFTER = timedelta(minutes=30)
START_SOC_WHEN_UNKNOWN = 0.5
LOOK_BACK = timedelta(hours=24)
_QUARTER = 15
_LIMITED_BELOW = 0.999


def read_state(db: TenantStore, site: Site, horizon: Horizon, now: datetime) -> tuple[SiteState, dict[str, Any]]:
    """State at the start of the plan, and where each part of it came from.

    SoC: live, else the latest reading, else half full; planned where the horizon lies ahead. Gensets: for how long they
    run or rest. Controllable loads: how long they were curtailed today, and since when not. Import peak of the month.
    """
    from flexergy_pipelines.store.live import read_live

    live = _recent(read_live(db, site.id), now)
    tags: dict[str, Any] = {}
    soc: dict[str, float] = {}
    for ess in site.ess():
        reported = live.get((ess.id, "soc"))
        soc[ess.id], tags[f"{ess.id}.soc"] = _soc(db, (site.id, ess.id), horizon, now, reported=reported)
    names = [asset.id for asset in site.assets()]
    # In a plan that begins in the next billing period nothing is paid for yet.
    same_bill = billing_start(site, horizon.start) == billing_start(site, now)
    peak = peak_so_far(db, site, now) if same_bill else 0.0
    running = frozenset(g.id for g in site.gensets() if live.get((g.id, "running"), 0.0) > 0.5)
    # Where the plan begins later, what stands now is taken to last until then.
    ahead = max(int((horizon.start.astimezone(UTC) - now).total_seconds() // 60), 0)
    minutes = {name: value + ahead for name, value in _minutes_in_state(db, site, now, running).items()}
    another_day = horizon.start.astimezone(site.zone).date() != now.astimezone(site.zone).date()
    curtailed = {
        name: LoadHistory(0 if another_day else past.curtailed_minutes, past.minutes_since_last + ahead)
        for name, past in _load_history(db, site, now).items()
    }
    usual = read_peaks_within_reach(db, site, now)
    tags["peak_so_far_kw"] = peak
    if usual:
        tags["usual_peak_kw"] = max(usual)
    tags |= {f"{name}.minutes_in_state": value for name, value in minutes.items()}
    tags |= {f"{name}.curtailed_minutes": past.curtailed_minutes for name, past in curtailed.items()}
    return (
        SiteState(
            soc=soc,
            soh=_positive(live, "soh", soc),
            max_charge_kw=_positive(live, "max_charge_kw", soc),
            max_discharge_kw=_positive(live, "max_discharge_kw", soc),
            unavailable=frozenset(name for name in names if live.get((name, "available"), 1.0) < 0.5),
            running=running,
            peak_so_far_kw=peak,
            usual_peaks_kw=usual,
            minutes_in_state=minutes,
            load_history=curtailed,
        ),
        tags,
    )


def _recent(live: pl.DataFrame, now: datetime) -> dict[tuple[str, str], float]:
    """Live values that are good and not stale."""
    if live.is_empty():
        return {}
    good = live.filter(
        (pl.col("quality") == 0) & pl.col("value").is_not_null() & (pl.col("time") >= now.astimezone(UTC) - STALE_AFTER)
    )
    return {
        (asset, quantity): value for asset, quantity, value in good.select("asset_id", "quantity", "value").iter_rows()
    }


def _positive(live: dict[tuple[str, str], float], quantity: str, assets: Iterable[str]) -> dict[str, float]:
    """A quantity of the assets that report it; what isn't a sensible limit is left to the nameplate."""
    floor = 0.2 if quantity == "soh" else 0.0
    found = {name: live[name, quantity] for name in assets if (name, quantity) in live}
    return {name: value for name, value in found.items() if floor <= value and (quantity != "soh" or value <= 1.0)}


def _soc(
    db: TenantStore, point: tuple[str, str], horizon: Horizon, now: datetime, *, reported: float | None
) -> tuple[float, str]:
    """SoC at the start of the horizon: planned where that lies ahead, else reported, else the last one read."""
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.readings import read_readings

    site_id, ess_id = point
    start = horizon.start.astimezone(UTC)
    if start > now.astimezone(UTC) + STALE_AFTER:
        active = read_active_plan(db, site_id, now)
        if active is not None:
            planned = active.values.filter(
                (pl.col("asset_id") == ess_id) & (pl.col("quantity") == "soc") & (pl.col("time") == start)
            )
            if planned.height:
                return float(planned["value"][0]), "active plan"
    if reported is not None:
        return reported, "live"
    past = read_readings(db, site_id, now - timedelta(days=1), now, [(ess_id, "soc")])
    past = past.filter((pl.col("quality") == 0) & pl.col("value").is_not_null()).sort("time")
    if past.height:
        return float(past["value"][-1]), "latest reading"
    return START_SOC_WHEN_UNKNOWN, "unknown, half assumed"


def _minutes_in_state(db: TenantStore, site: Site, now: datetime, running: frozenset[str]) -> dict[str, int]:
    """For how long each genset runs or rests; left out where no change was read in the last day."""
    from flexergy_pipelines.store.readings import read_readings

    gensets = [genset.id for genset in site.gensets()]
    if not gensets:
        return {}
    past = read_readings(db, site.id, now - LOOK_BACK, now, [(name, "running") for name in gensets])
    past = past.filter((pl.col("quality") == 0) & pl.col("value").is_not_null())
    found: dict[str, int] = {}
    for name in gensets:
        other = past.filter((pl.col("asset_id") == name) & ((pl.col("value") > 0.5) != (name in running)))
        changed = other["time"].max()
        if isinstance(changed, datetime):
            found[name] = max(int((now - changed).total_seconds() // 60), 0)
    return found


def _load_history(db: TenantStore, site: Site, now: datetime) -> dict[str, LoadHistory]:
    """What was curtailed since local midnight, and for how long not since, from the limits that were sent."""
    from flexergy_pipelines.store.limits import read_limits

    loads = {load.id: load.rated_kw for load in site.controllable_loads()}
    if not loads:
        return {}
    midnight = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    sent = read_limits(db, site.id, min(midnight, now - LOOK_BACK), now)
    found: dict[str, LoadHistory] = {}
    for name, rated_kw in loads.items():
        cut = sent.filter((pl.col("asset_id") == name) & (pl.col("limit_kw") < _LIMITED_BELOW * rated_kw))
        last = cut["time"].max()
        if not isinstance(last, datetime):
            continue
        ended = min(last + timedelta(minutes=_QUARTER), now)
        found[name] = LoadHistory(
            curtailed_minutes=_QUARTER * cut.filter(pl.col("time") >= midnight).height,
            minutes_since_last=max(int((now - ended).total_seconds() // 60), 0),
        )
    return found

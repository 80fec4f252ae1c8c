"""Variable prices of a market player: peak and off-peak, taken in anew within hours, newest first, none forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_defs.definitions import defs
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.schedules import SCHEDULES
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.commands import pending_replans
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.prices import read_prices
from tests.ingestion.answers import Reply, as_json, serving

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
PEAK, OFF_PEAK = 90.0, 45.0
"""EUR/MWh of 08:00 to 20:00 and of the rest of the day."""


def quoted(published: datetime, shift: float) -> Any:
    """A market player's answer: peak and off-peak prices, moved by `shift`."""

    def answer(query: dict[str, str]) -> Reply:
        start = datetime.fromisoformat(query["start"])
        zone = sample_site("microgrid").zone
        stamps = [start + timedelta(hours=i) for i in range(72)]
        prices = [PEAK if 8 <= stamp.astimezone(zone).hour < 20 else OFF_PEAK for stamp in stamps]
        return as_json(
            {
                "area": query["area"], "resolution_minutes": 60, "unit": "EUR/MWh",
                "published_at": published.isoformat(),
                "prices": [{"start": t.isoformat(), "price": p + shift} for t, p in zip(stamps, prices, strict=True)],
            }
        )  # fmt: skip

    return answer


def fetch(instance: dg.DagsterInstance, at: datetime) -> None:
    result = defs.resolve_job_def("market").execute_in_process(
        instance=instance, resources={"store": StoreResource(as_of=at.isoformat()), "models": ModelsResource()}
    )
    assert result.success


@pytest.mark.requirement("energy.10.1", "energy.11.2")
def test_prices_are_updated_within_hours_and_what_was_known_before_stays(
    installation: Settings, db: TenantStore, instance: dg.DagsterInstance
) -> None:
    later = NOW + timedelta(hours=3)
    for at, shift in ((NOW, 0.0), (later, 10.0)):
        with serving(quoted(at, shift)) as service:
            publish_endpoints(installation, {"market": service.url})
            fetch(instance, at)
        if at == NOW:
            plan = PlanRecord(
                site_id="microgrid", kind="intraday", created_at=at, start=at, end=at + timedelta(hours=24),
                step_minutes=60, status="optimal",
            )  # fmt: skip
            point = {"asset_id": "ess-1", "quantity": "active_power_setpoint_kw", "time": at, "value": 0.0}
            write_plan(db, plan, pl.DataFrame([point]))
    [request] = pending_replans(db)
    assert (request.site_id, request.reason[:26]) == ("microgrid", "day-ahead prices changed: ")
    zone = sample_site("microgrid").zone
    noon = datetime(2026, 11, 21, 12, tzinfo=zone).astimezone(UTC)
    night = datetime(2026, 11, 21, 3, tzinfo=zone).astimezone(UTC)

    def price(moment: datetime, known_at: datetime | None = None) -> float:
        frame = read_prices(db, "microgrid", moment, moment + timedelta(hours=1), known_at=known_at)
        return frame["price_eur_per_kwh"].item()

    assert (price(noon), price(night)) == pytest.approx((0.100, 0.055))
    assert (price(noon, NOW), price(night, later - timedelta(minutes=1))) == pytest.approx((0.090, 0.045))


@pytest.mark.requirement("energy.10.1")
def test_the_market_is_asked_at_least_every_two_hours(installation: Settings, instance: dg.DagsterInstance) -> None:
    assert installation.database_url
    [schedule] = [one for one in SCHEDULES if one.job_name == "market"]
    asked: list[datetime] = []
    for quarter in range(9):
        at = NOW + timedelta(minutes=15 * quarter)
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, resources={"store": StoreResource(as_of=at.isoformat())}
        )
        if schedule.evaluate_tick(context).run_requests:
            asked.append(at)
    assert len(asked) >= 2
    assert max(b - a for a, b in pairwise(asked)) <= timedelta(hours=2)

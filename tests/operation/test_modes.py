"""Scheduled modes: which one holds when, what is refused, and that planner and loop are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.operation.modes import (
    MODES,
    cancel_mode,
    list_modes,
    mode_in_force,
    modes_between,
    schedule_mode,
)
from flexergy_pipelines.operation.outages import cancel_outage, outages_between, plan_outage
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.commands import pending_replans
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.sites import save_site

T0 = datetime(2026, 5, 4, tzinfo=UTC)


def microgrid_in(db: TenantStore) -> str:
    site = sample_site("microgrid")
    save_site(db, site)
    return site.id


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


@pytest.mark.requirement("energy.09.1", "energy.09.2")
def test_the_mode_that_starts_last_holds_until_its_end_and_then_the_one_beneath(db: TenantStore) -> None:
    site = microgrid_in(db)
    schedule_mode(db, site, "self_consumption", starts_at=at(0), reason="tested", user="olga")
    shaving = schedule_mode(
        db, site, "peak_shaving", starts_at=at(8), ends_at=at(12), parameters={"import_kw": 120.0}, reason="tested",
        user="olga",
    )  # fmt: skip
    assert mode_in_force(db, site, at(-1)) is None
    holding = [mode_in_force(db, site, at(hour)) for hour in (0, 7.9, 8, 11.9, 12, 400)]
    assert [one and one.mode for one in holding] == [
        "self_consumption", "self_consumption", "peak_shaving", "peak_shaving", "self_consumption", "self_consumption",
    ]  # fmt: skip
    assert holding[2] is not None
    assert holding[2].parameters == {"import_kw": 120.0}
    assert (holding[2].since, holding[2].until) == (at(8), at(12))
    stretches = [(one.mode, one.since, one.until) for one in modes_between(db, site, at(6), at(14))]
    assert stretches == [
        ("self_consumption", at(0), at(8)),
        ("peak_shaving", at(8), at(12)),
        ("self_consumption", at(12), None),
    ]
    cancel_mode(db, site, shaving, user="olga")
    after = mode_in_force(db, site, at(9))
    assert after is not None
    assert after.mode == "self_consumption"
    assert [entry.mode for entry in list_modes(db, site, at(0), at(24))] == ["self_consumption"]
    assert {request.site_id for request in pending_replans(db)} == {site}
    with pytest.raises(NotFoundError, match="does not exist or is cancelled"):
        cancel_mode(db, site, shaving, user="olga")


@pytest.mark.parametrize(
    ("mode", "change", "said"),
    [
        ("turbo", {}, "mode 'turbo' is not one of plan, self_consumption"),
        ("peak_shaving", {}, "parameter import_kw is missing"),
        ("peak_shaving", {"parameters": {"import_kw": 9999.0}}, "import_kw 9999.0 is outside 0 to 400 kW"),
        ("peak_shaving", {"parameters": {"import_kw": float("nan")}}, "import_kw nan is outside"),
        ("idle", {"parameters": {"import_kw": 1.0}}, "parameter import_kw is not known; it takes none"),
        ("idle", {"reason": " "}, "reason has 0 letters"),
        ("idle", {"ends_at": at(-1)}, "must be after starts_at"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_and_nothing_is_left(
    db: TenantStore, mode: str, change: dict[str, Any], said: str
) -> None:
    site = microgrid_in(db)
    given: dict[str, Any] = {"starts_at": at(0), "reason": "tested", "user": "olga", **change}
    with pytest.raises(InvalidDataError, match=said):
        schedule_mode(db, site, mode, **given)
    assert list_modes(db, site, at(-100), at(100)) == []


def test_every_mode_says_what_it_does() -> None:
    assert set(MODES) >= {"plan", "self_consumption", "zero_flow", "peak_shaving", "islanded", "manual"}
    assert all(kind.meaning for kind in MODES.values())


def test_planned_interventions_are_kept_and_taken_back(db: TenantStore) -> None:
    site = microgrid_in(db)
    number = plan_outage(db, site, "ess-1", starts_at=at(1), ends_at=at(3), reason="fan", user="olga")
    assert [(one.asset_id, one.starts_at, one.ends_at) for one in outages_between(db, site, at(2), at(9))] == [
        ("ess-1", at(1), at(3))
    ]
    assert outages_between(db, site, at(3), at(9)) == []
    with pytest.raises(InvalidDataError, match="asset ess-9 is not one of"):
        plan_outage(db, site, "ess-9", starts_at=at(1), ends_at=at(3), reason="fan", user="olga")
    cancel_outage(db, site, number, user="olga")
    assert outages_between(db, site, at(0), at(9)) == []

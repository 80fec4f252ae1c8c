"""What the checks find of stored meters: registers, clocks, phases and days, on the wall clock of the site."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.quality.findings import CHECKS, find_disagreements, find_oddities
from flexergy_pipelines.quality.site import clean_period
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.quality import read_findings, replace_findings
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site

SITE = "microgrid"
ZONE = ZoneInfo("Europe/Amsterdam")
DAYS = 63
FIRST = date(2026, 9, 7)  # the clock is put back on 25 October, in the midst
START = datetime(2026, 9, 6, 22, tzinfo=UTC)
TIMES = [START + timedelta(minutes=15 * n) for n in range(DAYS * 96 + 4)]


def course(shift_slots: np.ndarray | None = None) -> np.ndarray:
    """A load that follows the local hour, with a little noise; shifted by so many quarters where asked."""
    local = [time.astimezone(ZONE) for time in TIMES]
    hour = np.array([time.hour + time.minute / 60 for time in local])
    moved = hour if shift_slots is None else hour - shift_slots / 4
    noise = np.random.default_rng(3).normal(0, 0.3, len(TIMES))
    return 40 + 15 * np.sin(moved / 24 * 2 * np.pi) + 6 * np.sin(moved / 24 * 4 * np.pi) + noise


def write(db: TenantStore, asset: str, quantity: str, values: np.ndarray) -> None:
    count = len(TIMES)
    frame = {"asset_id": [asset] * count, "quantity": [quantity] * count, "time": TIMES, "value": values}
    write_readings(db, SITE, pl.DataFrame(frame), "test", allow_future=True)


def day_of(slot: int) -> date:
    return TIMES[slot].astimezone(ZONE).date()


@pytest.fixture
def site(db: TenantStore) -> TenantStore:
    save_site(db, sample_site(SITE))
    return db


@pytest.mark.requirement("module.ami")
def test_a_meter_whose_clock_is_off_is_told_by_day_also_across_the_change_of_clocks(site: TenantStore) -> None:
    shift = np.zeros(len(TIMES))
    shift[50 * 96 : 56 * 96] = 4
    write(site, "load-1", "active_power_kw", course(shift))
    found = find_oddities(site, SITE, FIRST, FIRST + timedelta(days=DAYS - 1))
    assert found["check_name"].unique().to_list() == ["clock_drift"]
    assert found["found"].unique().to_list() == [pytest.approx(60, abs=15)]
    days = found["day"].to_list()
    assert day_of(51 * 96) in days
    assert min(days) >= day_of(49 * 96)
    assert max(days) <= day_of(56 * 96)


@pytest.mark.requirement("module.ami")
def test_exchanged_phases_and_a_day_like_no_other_are_found(site: TenantStore) -> None:
    plain = course()
    shares = {"l1": 0.5, "l2": 0.3, "l3": 0.2}
    phases = {name: share * plain for name, share in shares.items()}
    swap = slice(40 * 96, 45 * 96)
    phases["l1"][swap], phases["l3"][swap] = phases["l3"][swap].copy(), phases["l1"][swap].copy()
    for name, values in phases.items():
        write(site, "load-1", f"active_power_{name}_kw", values)
    party = plain.copy()
    party[30 * 96 : 31 * 96] *= 1.9
    write(site, "load-1", "active_power_kw", party)
    found = find_oddities(site, SITE, FIRST, FIRST + timedelta(days=DAYS - 1))
    swaps = found.filter(pl.col("check_name") == "swapped_phases")
    assert swaps["subject"].unique().to_list() == ["load-1 L1-L3"]
    assert set(swaps["day"]) >= {day_of(slot * 96) for slot in range(41, 44)}
    unusual = found.filter(pl.col("check_name") == "unusual_day")
    assert unusual["day"].to_list() == [day_of(30 * 96 + 40)]


@pytest.mark.requirement("module.ami")
def test_a_register_that_counts_too_little_is_told_with_both_numbers_and_forgotten_when_it_is_mended(
    site: TenantStore,
) -> None:
    power = course()
    counted = power / 4
    counted[10 * 96 : 11 * 96] *= 0.8
    write(site, "pcc", "active_power_kw", power)
    write(site, "pcc", "import_energy_kwh", np.concatenate(([0.0], np.cumsum(counted)[:-1])))
    write(site, "pcc", "export_energy_kwh", np.zeros(len(TIMES)))
    clean_period(site, SITE, START, TIMES[-1])
    last = FIRST + timedelta(days=20)
    found = find_disagreements(site, SITE, FIRST, last)
    assert set(found["check_name"]) == {"import_energy"}
    worst = found.sort("deviation", descending=True).row(0, named=True)
    assert worst["expected"] == pytest.approx(24 * 40, rel=0.05)
    assert worst["found"] < 0.87 * worst["expected"]
    assert f"kWh found, {worst['expected']:.1f} expected" in worst["detail"]
    replace_findings(site, SITE, list(CHECKS), FIRST, last, found)
    assert read_findings(site, SITE, FIRST, last).height == found.height
    replace_findings(site, SITE, list(CHECKS), FIRST, last, found.clear())
    assert read_findings(site, SITE, FIRST, last).is_empty()


def test_quiet_meters_have_no_findings(site: TenantStore) -> None:
    write(site, "load-1", "active_power_kw", course())
    assert find_oddities(site, SITE, FIRST, FIRST + timedelta(days=DAYS - 1)).is_empty()
    assert find_disagreements(site, SITE, FIRST, FIRST + timedelta(days=10)).is_empty()

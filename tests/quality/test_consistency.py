"""Meters against each other: registers, sums, phases and clocks that do not fit are found on the right days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.quality.consistency import (
    clock_drift,
    energy_against_power,
    sum_against_main,
    swapped_phases,
)
from flexergy_pipelines.quality.metering import consistency, meter_quality, observable_period
from flexergy_pipelines.quality.observable import most_observable
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore, sample
from flexergy_pipelines.store.sample import import_sample

DAYS = 40


def load(seed: int, base: float = 60.0) -> np.ndarray:
    i = np.arange(DAYS * 96)
    course = 1 + np.sin(2 * np.pi * (i % 96 - 30 - 11 * seed) / 96) + 0.4 * np.sin(2 * np.pi * i / 48 + seed)
    return base + 30 * course + np.random.default_rng(seed).normal(0, 1.5, i.size)


@pytest.mark.requirement("module.ami")
def test_a_register_that_does_not_count_what_flows_is_found() -> None:
    power = load(1)
    register = np.concatenate(([0.0], np.cumsum(power)[:-1])) / 4
    assert all(v.fits for v in energy_against_power(register, power, 15))
    slow = register.copy()
    slow[96 * 10 :] = register[96 * 10] + 0.9 * (register[96 * 10 :] - register[96 * 10])
    wrong = [v for v in energy_against_power(slow, power, 15) if not v.fits]
    assert [v.day for v in wrong] == list(range(10, DAYS))
    assert wrong[0].deviation == pytest.approx(0.1, abs=0.01)


def test_a_register_that_begins_anew_is_not_a_mismatch() -> None:
    power = load(1)
    register = np.concatenate(([0.0], np.cumsum(power)[:-1])) / 4
    register[2000:] -= register[2000]
    assert all(v.fits for v in energy_against_power(register, power, 15))


@pytest.mark.requirement("module.ami")
def test_a_sub_meter_that_fails_breaks_the_sum() -> None:
    parts = [load(1), load(2), -load(3)]
    main = np.sum(parts, axis=0)
    assert all(v.fits for v in sum_against_main(main, parts, 15))
    parts[1] = parts[1].copy()
    parts[1][96 * 5 : 96 * 8] *= 0.5
    assert [v.day for v in sum_against_main(main, parts, 15) if not v.fits] == [5, 6, 7]


def test_days_of_which_too_little_is_known_get_no_verdict() -> None:
    parts = [load(1), load(2)]
    main = np.sum(parts, axis=0)
    parts[0][96 * 3 : 96 * 3 + 40] = np.nan
    assert 3 not in {v.day for v in sum_against_main(main, parts, 15)}


@pytest.mark.requirement("module.ami")
def test_exchanged_phases_are_found() -> None:
    phases = {"L1": load(1), "L2": load(3), "L3": load(5)}
    assert swapped_phases(phases, 15) == []
    swapped = {name: values.copy() for name, values in phases.items()}
    part = slice(96 * 12, 96 * 18)
    swapped["L1"][part], swapped["L3"][part] = phases["L3"][part], phases["L1"][part]
    [swap] = swapped_phases(swapped, 15)
    assert (swap.phases, swap.first_day, swap.last_day) == (("L1", "L3"), 12, 17)


@pytest.mark.requirement("module.ami")
def test_a_clock_that_goes_wrong_is_found() -> None:
    values = load(1)
    assert clock_drift(values, values, 15) == []
    late = values.copy()
    late[96 * 20 :] = np.roll(values, 3)[96 * 20 :]
    [drift] = clock_drift(late, values, 15)
    assert drift.minutes == pytest.approx(45, abs=1)
    assert drift.first_day in (20, 21)
    assert drift.last_day == DAYS - 1


@pytest.mark.requirement("module.ami")
def test_the_best_observed_stretch_bridges_a_bad_day_but_not_a_bad_month() -> None:
    days = [date(2026, 1, 1) + timedelta(days=i) for i in range(100)]
    usable = np.ones(100)
    usable[:30] = 0.4
    usable[60] = 0.5
    usable[80:] = 0.0
    best = most_observable(days, usable)
    assert best is not None
    assert (best.first, best.last, best.days) == (days[30], days[79], 50)
    assert "1 weak day bridged" in best.reason
    assert most_observable(days, np.zeros(100)) is None
    assert most_observable([], np.zeros(0)) is None


@pytest.mark.requirement("module.ami")
def test_the_sample_sites_meters_agree_and_are_observed(
    db: TenantStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "HISTORY_DAYS", 5)
    now = datetime(2026, 11, 23, 14, 7, tzinfo=UTC)
    import_sample(db, Settings(home=tmp_path, database_url=None, tenant="demo"), sample_site("microgrid"), now)
    start = now - timedelta(days=5)
    found = consistency(db, "microgrid", start, now)
    assert set(found["check"]) == {"import_energy", "export_energy", "balance"}
    assert found["fits"].all()
    quality = meter_quality(db, "microgrid", start, now)
    assert quality.filter(pl.col("quantity") == "active_power_kw")["coverage"].to_numpy().min() > 0.95
    best = observable_period(db, "microgrid", ("load-1", "active_power_kw"), start, now)
    assert best is not None
    assert best.days >= 5

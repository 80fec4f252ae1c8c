"""Faults between meters, put into real series: exchanged phases, clocks, registers, sub-meters."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.faults import counter_of, every_series
from flexergy_pipelines.quality.consistency import (
    clock_drift,
    energy_against_power,
    sum_against_main,
    swapped_phases,
)

SERIES = {series.name: series for series in every_series()}
DAYS = 120
LOADS = ("business G0-A", "business G4-H", "cold store G3-H", "farm L2-A")


def load(name: str) -> np.ndarray:
    return SERIES[name].days(30, DAYS).values


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("names", [LOADS[:3], LOADS[1:]])
def test_exchanged_phases_are_found_on_the_right_days(names: tuple[str, ...]) -> None:
    phases = {f"L{i + 1}": load(name) / load(name).mean() * 20 for i, name in enumerate(names)}
    assert swapped_phases(phases, 15) == []
    part = slice(96 * 50, 96 * 64)
    swapped = {name: values.copy() for name, values in phases.items()}
    swapped["L1"][part], swapped["L2"][part] = phases["L2"][part], phases["L1"][part]
    found = np.zeros(DAYS, dtype=bool)
    for swap in swapped_phases(swapped, 15):
        assert swap.phases == ("L1", "L2")
        found[swap.first_day : swap.last_day + 1] = True
    assert found[50:64].mean() >= 0.9
    assert not found[:50].any()
    assert not found[64:].any()


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", LOADS[:3])
def test_a_clock_that_is_an_hour_late_is_found_against_the_main_meter(name: str) -> None:
    part = load(name)
    main = part + 0.5 * load("business G6-A")  # a trusted clock, and another load on top
    late = part.copy()
    late[96 * 60 :] = np.roll(part, 4)[96 * 60 :]
    assert clock_drift(part, main, 15) == []
    drifts = clock_drift(late, main, 15)
    days = np.zeros(DAYS, dtype=bool)
    for drift in drifts:
        assert 30 <= drift.minutes <= 90
        days[drift.first_day : drift.last_day + 1] = True
    assert days[60:].mean() >= 0.7
    assert not days[:59].any()


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", [*LOADS, "PV3", "wind WP4"])
def test_a_register_that_counts_a_twentieth_too_little_is_found(name: str) -> None:
    power = load(name)
    register = counter_of(np.concatenate(([0.0], power[:-1])), 96)
    assert all(verdict.fits for verdict in energy_against_power(register, power, 15))
    slow = register.copy()
    slow[96 * 70 :] = register[96 * 70] + 0.95 * (register[96 * 70 :] - register[96 * 70])
    verdicts = energy_against_power(slow, power, 15)
    counted = max(verdict.expected for verdict in verdicts)
    wrong = {verdict.day for verdict in verdicts if not verdict.fits}
    assert wrong >= {v.day for v in verdicts if v.day >= 70 and v.expected > 0.05 * counted}
    assert min(wrong) >= 70


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("fault", ["turned", "half", "dead"])
def test_a_sub_meter_that_fails_breaks_the_sum(fault: str) -> None:
    parts = [load(name) for name in LOADS] + [-load("PV3") / 4]
    main = np.sum(parts, axis=0)
    assert all(verdict.fits for verdict in sum_against_main(main, parts, 15))
    part = slice(96 * 40, 96 * 47)
    parts[1] = parts[1].copy()
    parts[1][part] *= {"turned": -1.0, "half": 0.5, "dead": 0.0}[fault]
    assert [v.day for v in sum_against_main(main, parts, 15) if not v.fits] == list(range(40, 47))

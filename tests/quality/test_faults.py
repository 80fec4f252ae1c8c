"""Known faults in real series: how many are found, how many findings are right, and how well gaps are filled."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cleansing import gap_ratio, spec_of
from benchmarks.faults import FAULTS, MORE_FAULTS, REGISTER_FAULTS, RealSeries, counter_of, real_series, score
from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.series import CODE, cleanse, detect

SERIES = {series.name: series for series in real_series()}
PRECISION, RECALL = 0.95, 0.90

# Every kind where the fault can be told from what the series does by itself: a turbine that gives a tenth for an hour
# does what the wind does, and a single household jumps as far as many a spike.
ALL_FAULTS = {**FAULTS, **MORE_FAULTS}
NO_HOUSEHOLD = [name for name in SERIES if name != "household H0-A"]
NO_TURBINE = [name for name in SERIES if name != "turbine R80711"]
CASES = (
    [(name, "spikes") for name in SERIES]
    + [(name, "multiplied") for name in NO_HOUSEHOLD]
    + [(name, "frozen") for name in SERIES]
    + [(name, "unit slips") for name in NO_TURBINE]
    + [("turbine R80711", "slips x1000")]
    + [(name, fault) for name in ("business G4-H", "PV3", "turbine R80711") for fault in ("signs", "falls")]
    + [(name, "resets") for name in SERIES]
    + [(name, fault) for name in ("business G4-H", "PV3", "wind WP4") for fault in ("roll-overs", "stuck")]
)
MONTHS = [
    (name, fault)
    for name in ("business G0-A", "business G4-H", "farm L2-A", "demand of Victoria", "PV3", "wind WP4")
    for fault in ("spikes", "frozen", "slips x1000")
]


def found(series: RealSeries, fault: str, seed: int) -> tuple[float, float]:
    per_day = 1440 // series.step_minutes
    counter = fault in REGISTER_FAULTS
    spec = spec_of(series, counter=counter)
    clean = counter_of(series.values, per_day) if counter else series.values
    before = detect(clean, spec)[1] != 0
    dirty, truth = ALL_FAULTS[fault](series.values, per_day, np.random.default_rng(seed))
    result = score(detect(dirty, spec)[1] != 0, truth, before)
    return result.precision, result.recall


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize(("name", "fault"), CASES)
def test_faults_are_found_and_little_else(name: str, fault: str) -> None:
    results = [found(SERIES[name], fault, seed) for seed in (11, 12)]
    assert np.mean([precision for precision, _ in results]) >= PRECISION
    assert np.mean([recall for _, recall in results]) >= RECALL


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize(("name", "fault"), MONTHS)
def test_a_month_is_judged_as_safely_as_a_year(name: str, fault: str) -> None:
    results = [found(SERIES[name].days(first, 30), fault, 11) for first in (15, 190)]
    assert np.mean([precision for precision, _ in results]) >= PRECISION
    assert np.mean([recall for _, recall in results]) >= RECALL


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("hours", [2, 6, 24])
def test_gaps_are_filled_better_than_by_a_line_or_by_last_week(name: str, hours: int) -> None:
    assert gap_ratio(SERIES[name], hours, seeds=3) < 1.0


@pytest.mark.requirement("module.ami")
def test_slipped_units_and_turned_signs_are_put_right() -> None:
    series = SERIES["business G4-H"]
    dirty = series.values.copy()
    dirty[5000:5100] *= 1000
    dirty[9000:9020] *= -1
    result = cleanse(dirty, spec_of(series))
    assert (result.codes[5000:5100] == CODE[flags.UNIT_SLIP]).all()
    assert (result.codes[9000:9020] == CODE[flags.SIGN_FLIP]).all()
    for part in (slice(5000, 5100), slice(9000, 9020)):
        assert result.values[part] == pytest.approx(series.values[part])


@pytest.mark.requirement("module.ami")
def test_a_register_that_begins_anew_is_told_once_and_left() -> None:
    series = SERIES["business G0-A"]
    register = counter_of(series.values, 96)
    register[20000:] -= register[20000]
    result = cleanse(register, spec_of(series, counter=True))
    assert np.flatnonzero(result.codes).tolist() == [20000]
    assert result.codes[20000] == CODE[flags.COUNTER_RESET]
    assert np.array_equal(result.values, register)


def test_a_register_that_reads_high_for_a_moment_is_put_right() -> None:
    series = SERIES["business G0-A"]
    register = counter_of(series.values, 96)
    dirty = register.copy()
    dirty[7000:7005] *= 1000
    dirty[9000] = 0.0
    dirty[12000:12010] = np.nan
    result = cleanse(dirty, spec_of(series, counter=True))
    assert (result.codes[7000:7005] == CODE[flags.UNIT_SLIP]).all()
    assert result.codes[9000] == CODE[flags.SPIKE]
    assert np.flatnonzero(result.codes).size == 16
    assert np.abs(result.values - register).max() < 60


@pytest.mark.requirement("module.ami")
def test_output_of_pv_at_night_is_taken_out() -> None:
    series = SERIES["PV3"]
    dirty = series.values.copy()
    dirty[96 * 100 + 4] = 35.0
    result = cleanse(dirty, spec_of(series))
    assert result.codes[96 * 100 + 4] == CODE[flags.NIGHT_OUTPUT]
    assert result.values[96 * 100 + 4] == 0

"""Known faults put into copies of real series, with the truth kept, so that detection can be counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.quality.spec import SeriesKind

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"


@dataclass(frozen=True, slots=True)
class RealSeries:
    """A real series without holes.

    Attributes
    ----------
    capacity : float or None
        Nameplate, where there is one.
    """

    name: str
    kind: SeriesKind
    step_minutes: int
    values: Values
    capacity: float | None = None


def real_series() -> list[RealSeries]:
    """Loads, PV and wind of the sample data, as they are."""
    simbench = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    victoria = pl.read_parquet(DATA / "load_victoria_30min.parquet")
    wind = pl.read_parquet(DATA / "wind_lahauteborne_60min.parquet")

    def column(frame: pl.DataFrame, name: str, scale: float = 1.0) -> Values:
        return scale * frame[name].cast(pl.Float64).interpolate().fill_null(0.0).to_numpy()

    return [
        RealSeries("business G0-A", "load", 15, column(simbench, "G0-A_p", 100.0)),
        RealSeries("cold store G3-H", "load", 15, column(simbench, "G3-H_p", 40.0)),
        RealSeries("business G4-H", "load", 15, column(simbench, "G4-H_p", 100.0)),
        RealSeries("farm L2-A", "load", 15, column(simbench, "L2-A_p", 60.0)),
        RealSeries("household H0-A", "load", 15, column(simbench, "H0-A_p", 20.0)),
        RealSeries("demand of Victoria", "load", 30, column(victoria, "demand_mwh_per_half_hour")),
        RealSeries("PV3", "pv", 15, column(simbench, "PV3", 400.0), 400.0),
        RealSeries("wind WP4", "wind", 15, column(simbench, "WP4", 150.0), 150.0),
        RealSeries("turbine R80711", "wind", 60, column(wind, "p_kw_R80711"), 2050.0),
    ]


Injection = Callable[[Values, int, np.random.Generator], tuple[Values, Mask]]
EVENTS_A_YEAR = 40


def _places(values: Values, per_day: int, random: np.random.Generator, longest: int, count: int) -> list[int]:
    """Places apart from each other by more than a day, where the series is well above zero."""
    bright = 0.15 * np.quantile(np.abs(values), 0.99)
    room = values.size - 2 * per_day - longest
    chosen: list[int] = []
    for place in random.permutation(np.arange(per_day, room)):
        apart = all(abs(int(place) - other) > longest + per_day // 2 for other in chosen)
        if apart and values[place] > bright:
            chosen.append(int(place))
        if len(chosen) == count:
            break
    return chosen


def _count(values: Values, per_day: int) -> int:
    return max(8, round(EVENTS_A_YEAR * values.size / per_day / 365))


def spikes(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """One or two values off by three to eight standard deviations of the series, up or down to zero."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    size = float(np.std(values))
    for place in _places(values, per_day, random, 3, _count(values, per_day)):
        width = int(random.integers(1, 3))
        dirty[place : place + width] += random.uniform(4, 10) * size
        mask[place : place + width] = True
    return dirty, mask


def multiplied(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """Single values times three to ten."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    for place in _places(values, per_day, random, 3, _count(values, per_day)):
        dirty[place] *= random.uniform(3, 10)
        mask[place] = True
    return dirty, mask


def frozen(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """The last value repeated for two hours to a day."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    hour = max(1, per_day // 24)
    for place in _places(values, per_day, random, per_day, _count(values, per_day) // 2):
        length = int(random.integers(max(6, 2 * hour), per_day))
        dirty[place : place + length] = dirty[place - 1]
        mask[place : place + length] = dirty[place : place + length] != values[place : place + length]
    return dirty, mask


def unit_slips(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """Stretches of hours up to two days in W or MW instead of kW, or ten times off."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    hour = max(1, per_day // 24)
    for place in _places(values, per_day, random, 2 * per_day, _count(values, per_day) // 2):
        length = int(random.integers(hour + 1, 2 * per_day))
        dirty[place : place + length] *= random.choice([1000.0, 0.001, 10.0, 0.1])
        mask[place : place + length] = dirty[place : place + length] != values[place : place + length]
    return dirty, mask


def counter_of(values: Values, per_day: int) -> Values:
    """Energy register that counts a power."""
    return 1234.5 + np.cumsum(np.maximum(values, 0)) * 24 / per_day


def resets(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """The series' energy register, beginning anew or rolling over a few times."""
    dirty, mask = counter_of(values, per_day), np.zeros(values.size, dtype=bool)
    for place in sorted(_places(values, per_day, random, per_day, 12)):
        dirty[place:] -= dirty[place]
        mask[place] = True
    return dirty, mask


FAULTS: dict[str, Injection] = {
    "spikes": spikes,
    "multiplied": multiplied,
    "frozen": frozen,
    "unit slips": unit_slips,
    "resets": resets,
}


@dataclass(frozen=True, slots=True)
class Score:
    precision: float
    recall: float
    flagged: int
    faults: int


def score(flagged: Mask, truth: Mask, before: Mask) -> Score:
    """Precision and recall; what was flagged in the untouched series already (`before`) counts as false, too."""
    hits = int((flagged & truth).sum())
    return Score(
        precision=hits / max(int(flagged.sum()), 1),
        recall=hits / max(int(truth.sum()), 1),
        flagged=int((flagged & before).sum()),
        faults=int(truth.sum()),
    )

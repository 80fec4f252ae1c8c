"""Known faults put into copies of real series, with the truth kept, so that detection can be counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    first_slot : int
        Slot of its day of the first value.
    """

    name: str
    kind: SeriesKind
    step_minutes: int
    values: Values
    capacity: float | None = None
    first_slot: int = 0

    @property
    def per_day(self) -> int:
        return 1440 // self.step_minutes

    def days(self, first: int, count: int) -> RealSeries:
        """The part of `count` days from day `first` on."""
        part = self.values[first * self.per_day : (first + count) * self.per_day]
        return replace(self, values=part)


def _column(frame: pl.DataFrame, name: str, scale: float = 1.0) -> Values:
    return scale * frame[name].cast(pl.Float64).interpolate().fill_null(0.0).to_numpy()


def real_series() -> list[RealSeries]:
    """Loads, PV and wind of the sample data, as they are: one of each character."""
    names = {
        "business G0-A",
        "cold store G3-H",
        "business G4-H",
        "farm L2-A",
        "household H0-A",
        "demand of Victoria",
        "PV3",
        "wind WP4",
        "turbine R80711",
    }
    return [series for series in every_series() if series.name in names]


def every_series() -> list[RealSeries]:
    """Every load, PV and wind series of the sample data, some also hourly."""
    simbench = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    victoria = pl.read_parquet(DATA / "load_victoria_30min.parquet")
    wind = pl.read_parquet(DATA / "wind_lahauteborne_60min.parquet")
    loads = {
        "business G0-A": ("G0-A_p", 100.0),
        "business G1-B": ("G1-B_p", 100.0),
        "cold store G3-H": ("G3-H_p", 40.0),
        "business G4-H": ("G4-H_p", 100.0),
        "business G6-A": ("G6-A_p", 100.0),
        "farm L2-A": ("L2-A_p", 60.0),
        "household H0-A": ("H0-A_p", 20.0),
        "household H0-C": ("H0-C_p", 20.0),
        "household H0-L": ("H0-L_p", 20.0),
        "heat WB-H": ("WB-H_p", 30.0),
        "heat BL-H": ("BL-H_p", 30.0),
    }
    series = [RealSeries(name, "load", 15, _column(simbench, *column)) for name, column in loads.items()]
    demand = _column(victoria, "demand_mwh_per_half_hour")
    series.append(RealSeries("demand of Victoria", "load", 30, demand, first_slot=26))
    series += [
        RealSeries(name, "pv", 15, _column(simbench, name, 400.0), 400.0) for name in ("PV1", "PV3", "PV5", "PV8")
    ]
    series += [
        RealSeries(f"wind {name}", "wind", 15, _column(simbench, name, 150.0), 150.0)
        for name in ("WP1", "WP4", "WP7", "WP10")
    ]
    turbines = [name for name in wind.columns if name.startswith("p_kw_")]
    series += [RealSeries(f"turbine {name[5:]}", "wind", 60, _column(wind, name), 2050.0) for name in turbines]
    farm = np.sum([_column(wind, name) for name in turbines], axis=0)
    series.append(RealSeries("wind farm", "wind", 60, farm, 4 * 2050.0))
    series.append(inverter("sma_7kw", 7.0))
    hourly = [s for s in series if s.name in ("business G0-A", "household H0-C", "demand of Victoria", "PV3")]
    return series + [_hourly(s) for s in hourly]


def inverter(system: str, capacity: float) -> RealSeries:
    """A real inverter at 5 minutes: nights are zero, holes interpolated, as injection needs to know the truth."""
    raw = pl.read_parquet(DATA / "pv_inverters_5min_raw.parquet").filter(pl.col("system") == system)
    raw = raw.filter(pl.col("ac_power_kw") >= 0).select("time", "ac_power_kw").unique("time").sort("time")
    day = raw.with_columns(pl.col("time").dt.date().alias("day")).group_by("day").len().filter(pl.col("len") > 100)
    first, last = day["day"].min(), day["day"].max()
    axis = pl.DataFrame({"time": pl.datetime_range(first, last, "5m", eager=True, time_unit="us")})  # pyright: ignore
    whole = axis.join(raw, on="time", how="left")["ac_power_kw"]
    values = whole.interpolate().fill_null(0.0).to_numpy().copy()
    known = whole.is_not_null().to_numpy()
    distance = np.minimum(_since(known), _since(known[::-1])[::-1])
    values[distance > 12] = 0.0
    return RealSeries(f"inverter {system}", "pv", 5, values, capacity)


def _since(known: Mask) -> NDArray[np.int64]:
    """Steps since the last True."""
    index = np.arange(known.size)
    return index - np.maximum.accumulate(np.where(known, index, -10_000))


def _hourly(series: RealSeries) -> RealSeries:
    each = 60 // series.step_minutes
    values = series.values[: series.values.size // each * each].reshape(-1, each).mean(axis=1)
    return replace(
        series, name=f"{series.name} 1 h", step_minutes=60, values=values, first_slot=series.first_slot // each
    )


Injection = Callable[[Values, int, np.random.Generator], tuple[Values, Mask]]
EVENTS_A_YEAR = 40


def _places(values: Values, per_day: int, random: np.random.Generator, longest: int, count: int) -> list[int]:
    """Places apart from each other by more than half a day, where the series is well above zero."""
    bright = 0.15 * np.quantile(np.abs(values), 0.99)
    room = values.size - per_day // 2 - longest
    chosen: list[int] = []
    for place in random.permutation(np.arange(per_day // 2, room)):
        apart = all(abs(int(place) - other) > longest + per_day // 2 for other in chosen)
        if apart and values[place] > bright:
            chosen.append(int(place))
        if len(chosen) == count:
            break
    return chosen


def _count(values: Values, per_day: int, least: int = 8) -> int:
    return max(least, round(EVENTS_A_YEAR * values.size / per_day / 365))


def spikes(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """One or two values too high by four to ten standard deviations of the series."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    size = float(np.std(values))
    for place in _places(values, per_day, random, 3, _count(values, per_day)):
        width = int(random.integers(1, 3))
        dirty[place : place + width] += random.uniform(4, 10) * size
        mask[place : place + width] = True
    return dirty, mask


def falls(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """One or two values too low by four to ten standard deviations of the series, so mostly below zero."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    size = float(np.std(values))
    for place in _places(values, per_day, random, 3, _count(values, per_day)):
        width = int(random.integers(1, 3))
        dirty[place : place + width] -= random.uniform(4, 10) * size
        mask[place : place + width] = True
    return dirty, mask


def multiplied(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """Single values times three to ten."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    for place in _places(values, per_day, random, 3, _count(values, per_day)):
        dirty[place] *= random.uniform(3, 10)
        mask[place] = True
    return dirty, mask


def many_spikes(values: Values, _per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """Half a per cent of all values, anywhere, too high by five to fifteen standard deviations."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    places = random.choice(np.arange(1, values.size - 1), values.size // 200, replace=False)
    dirty[places] += random.uniform(5, 15, places.size) * float(np.std(values))
    mask[places] = True
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


def _slips(factors: tuple[float, ...], shortest_hours: int, longest_days: int) -> Injection:
    def inject(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
        dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
        hour = max(1, per_day // 24)
        for place in _places(values, per_day, random, longest_days * per_day, _count(values, per_day, 6) // 2):
            length = int(random.integers(shortest_hours * hour + 1, longest_days * per_day))
            dirty[place : place + length] *= random.choice(factors)
            mask[place : place + length] = dirty[place : place + length] != values[place : place + length]
        return dirty, mask

    return inject


unit_slips = _slips(
    (1000.0, 0.001, 10.0, 0.1), 1, 2
)  # kW, W and MW mixed up, or a digit lost, for hours up to two days


def turned_signs(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """Stretches of three hours to a day with the wrong sign."""
    dirty, mask = values.copy(), np.zeros(values.size, dtype=bool)
    hour = max(1, per_day // 24)
    for place in _places(values, per_day, random, per_day, _count(values, per_day) // 2):
        length = int(random.integers(3 * hour, per_day))
        dirty[place : place + length] *= -1
        mask[place : place + length] = dirty[place : place + length] != values[place : place + length]
    return dirty, mask


def counter_of(values: Values, per_day: int) -> Values:
    """Energy register that counts a power."""
    return 1234.5 + np.cumsum(np.maximum(values, 0)) * 24 / per_day


def resets(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """The series' energy register, beginning anew a few times."""
    dirty, mask = counter_of(values, per_day), np.zeros(values.size, dtype=bool)
    for place in sorted(_places(values, per_day, random, per_day, 12)):
        dirty[place:] -= dirty[place]
        mask[place] = True
    return dirty, mask


def roll_overs(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """The series' energy register in whole units, with few digits; now and then another meter takes its place."""
    register = np.floor(counter_of(values, per_day))
    digits = 10.0 ** max(2, np.floor(np.log10(register[-1] - register[0])))
    replaced = np.zeros(values.size, dtype=bool)
    for place in sorted(_places(values, per_day, random, per_day, 2)):
        register[place:] += random.integers(int(0.3 * digits), int(0.9 * digits))
        replaced[place] = True
    dirty = register % digits
    return dirty, np.concatenate(([False], np.diff(dirty) < 0)) | replaced


def stuck_register(values: Values, per_day: int, random: np.random.Generator) -> tuple[Values, Mask]:
    """The series' energy register, standing still for three hours to a day, then right again."""
    register = counter_of(values, per_day)
    dirty = register.copy()
    hour = max(1, per_day // 24)
    for place in _places(values, per_day, random, per_day, _count(values, per_day) // 2):
        length = int(random.integers(max(4, 3 * hour), per_day))
        dirty[place : place + length] = dirty[place - 1]
    return dirty, dirty != register


FAULTS: dict[str, Injection] = {
    "spikes": spikes,
    "multiplied": multiplied,
    "frozen": frozen,
    "unit slips": unit_slips,
    "resets": resets,
}
# What else a file may hold; measured, too, but not on every series.
MORE_FAULTS: dict[str, Injection] = {
    "falls": falls,
    "many spikes": many_spikes,
    "slips x1000": _slips((1000.0,), 1, 3),
    "slips /1000": _slips((0.001,), 1, 3),
    "slips x10": _slips((10.0,), 1, 3),
    "slips /10": _slips((0.1,), 1, 3),
    "signs": turned_signs,
    "roll-overs": roll_overs,
    "stuck": stuck_register,
}
REGISTER_FAULTS = frozenset({"resets", "roll-overs", "stuck"})


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
        precision=hits / int(flagged.sum()) if flagged.any() else 1.0,
        recall=hits / int(truth.sum()) if truth.any() else 1.0,
        flagged=int((flagged & before).sum()),
        faults=int(truth.sum()),
    )

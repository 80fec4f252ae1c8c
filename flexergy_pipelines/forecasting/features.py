"""The feature matrix: for each pair of issue time and valid time, what could be known and nothing else.

Lags are counted in whole local days that had ended in the knowledge of the issue time, so no lag is ever shorter than
the lead; everything that touches the target's own past goes through `GatedSeries`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.calendars import CALENDAR_FEATURES, calendar_matrix, day_types
from flexergy_pipelines.forecasting.free_days import inferred_country
from flexergy_pipelines.forecasting.solar import inferred_location, plane_of_array, sun
from flexergy_pipelines.forecasting.timegrid import DAY, GatedSeries, Series, local_offset, wall_lag
from flexergy_pipelines.forecasting.weather import EMPTY_PANEL, WIND_ANY, WeatherPanel

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.targets import Location, Target
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

MIN_ELEVATION_DEG = -1.0
HEIGHT = re.compile(r"\d+")
WIND_DIRECTION = re.compile(r"(^|_)wd\d*|wind.?dir", re.IGNORECASE)


@dataclass(frozen=True)
class Rows:
    """What to forecast: pairs of issue and valid time [min since epoch], same length."""

    issue: Minutes
    valid: Minutes

    def __len__(self) -> int:
        return int(self.valid.size)

    def take(self, index: Minutes | np.ndarray) -> Rows:
        return Rows(self.issue[index], self.valid[index])


@dataclass(frozen=True)
class Inputs:
    """All that a model may draw on: the target, its series and the weather.

    `known_at` cuts both to what was known at an instant; models are fitted on nothing else.
    """

    target: Target
    series: Series
    weather: WeatherPanel = EMPTY_PANEL

    @property
    def past(self) -> GatedSeries:
        return GatedSeries(self.series, self.target)

    def known_at(self, issue: int) -> Inputs:
        end = int(self.past.known_end(np.array([issue], dtype=np.int64))[0])
        return Inputs(self.target, self.series.until(end), self.weather.known_at(issue))


def completed(inputs: Inputs, cutoff: int) -> Inputs:
    """The same, with what is not configured told from the data known at `cutoff`.

    A PV plant's place by its light; the country whose holidays a load or price keeps.
    """
    target = inputs.target
    known = inputs.known_at(cutoff)
    if target.kind == "pv" and target.location is None:
        place = inferred_location(known.series.minutes, _light(known, cutoff))
        return inputs if place is None else replace(inputs, target=replace(target, location=place))
    if target.kind in ("load", "controllable_load", "price") and target.country is None:
        return replace(inputs, target=replace(target, country=inferred_country(known.series, target.time_zone)))
    return inputs


def _light(known: Inputs, cutoff: int) -> Floats:
    """Irradiance as it was forecast, at the stamps of the series; the power itself where no irradiance is given."""
    minutes, light = known.series.minutes, known.weather.light
    if light is None:
        return known.series.values
    column = known.weather.columns.index(light)
    return known.weather.lookup(minutes, np.full(minutes.shape, cutoff, dtype=np.int64))[:, column]


def lag_days(rows: Rows, past: GatedSeries) -> Minutes:
    """Days back to the newest same clock time that is known, at least 1."""
    ahead = rows.valid + past.step - past.known_end(rows.issue)
    # an hour of slack keeps the lag known on the days when the clock is changed
    return np.maximum(1, -(-(ahead) // DAY))


def _lags(rows: Rows, past: GatedSeries) -> tuple[list[str], list[Floats]]:
    zone = past.target.time_zone
    first = lag_days(rows, past)
    weeks = -(-first // 7)

    def lagged(days: Minutes) -> Floats:
        return past.at(wall_lag(rows.valid, days, zone), rows.issue)

    week = [lagged(7 * (weeks + k)) for k in range(4)]
    names = ["lag_day", "lag_day_2", "lag_day_3", "lag_week", "lag_week_2", "lag_weeks_mean"]
    values = [lagged(first), lagged(first + 1), lagged(first + 2), week[0], week[1], _nanmean(week)]
    hour = 60 // past.step if past.step < 60 else 1
    for name, days in (("lag_day", first), ("lag_week", 7 * weeks)):
        base = wall_lag(rows.valid, days, zone)
        values += [past.at(base - hour * past.step, rows.issue), past.at(base + hour * past.step, rows.issue)]
        names += [f"{name}_before", f"{name}_after"]
    return names, values


def _nanmean(columns: list[Floats]) -> Floats:
    stacked = np.column_stack(columns)
    good = np.isfinite(stacked)
    count = good.sum(axis=1)
    total = np.where(good, stacked, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _same_type_lag(rows: Rows, past: GatedSeries) -> Floats:
    """Newest known value at the same clock time of a day of the same type: working day, Saturday, Sunday or holiday."""
    zone, country = past.target.time_zone, past.target.country
    local_day = (rows.valid + local_offset(rows.valid, zone)) // DAY
    wanted = day_types(local_day, country)
    first = lag_days(rows, past)
    out = np.full(len(rows), np.nan)
    for back in range(8):
        open_rows = np.isnan(out)
        if not open_rows.any():
            break
        days = first + back
        value = past.at(wall_lag(rows.valid, days, zone), rows.issue)
        fits = open_rows & (day_types(local_day - days, country) == wanted)
        out[fits] = value[fits]
    return out


def _levels(rows: Rows, past: GatedSeries) -> tuple[list[str], list[Floats]]:
    unique, inverse = np.unique(rows.issue, return_inverse=True)
    last = past.last_known(unique)
    day, before = past.mean_before(unique, 24), past.mean_before(unique, 24, 168)
    columns = {
        "last_known": last,
        "mean_3h": past.mean_before(unique, 3),
        "mean_24h": day,
        "mean_168h": past.mean_before(unique, 168),
        "mean_24h_change": day - before,
        "mean_3h_change": past.mean_before(unique, 3) - past.mean_before(unique, 3, 24),
    }
    return list(columns), [column[inverse] for column in columns.values()]


def _solar(rows: Rows, inputs: Inputs, weather: Floats) -> tuple[list[str], list[Floats]]:
    target = inputs.target
    if target.location is None:
        return [], []
    step = inputs.series.step
    elevation, azimuth, clear = sun(rows.valid, step, target.location)
    names, values = ["sun_elevation", "sun_azimuth", "clear_sky_ghi"], [elevation, azimuth, clear]
    light = inputs.weather.light
    if light is not None and light in inputs.weather.columns:
        ghi = weather[:, inputs.weather.columns.index(light)]
        up = elevation > 3.0
        index = np.where(up, ghi / np.maximum(clear, 20.0), np.nan)
        poa = plane_of_array(
            rows.valid,
            ghi,
            elevation,
            azimuth,
            tilt_deg=30.0 if target.tilt_deg is None else target.tilt_deg,
            azimuth_deg=_facing(target.location) if target.azimuth_deg is None else target.azimuth_deg,
        )
        names += ["clear_sky_index", "poa_irradiance"]
        values += [index, np.where(elevation > MIN_ELEVATION_DEG, poa, 0.0)]
    return names, values


def _facing(place: Location) -> float:
    """Azimuth of the midday sun [deg]: where modules face if nothing else is known."""
    return 180.0 if place.latitude_deg >= 0 else 0.0


def _wind(inputs: Inputs, weather: Floats) -> tuple[list[str], list[Floats]]:
    """Power curve of the wind nearest hub height and of its neighbours in time; shear and direction where known."""
    columns = inputs.weather.columns
    speeds = sorted(
        (i for i, c in enumerate(columns) if "|" not in c and (WIND_ANY.search(c) or c.startswith("speed("))),
        key=lambda i: -height_of(columns[i]),
    )
    names: list[str] = []
    values: list[Floats] = []
    for rank, i in enumerate(speeds[:2]):
        label = "" if rank == 0 else "_low"
        v = weather[:, i]
        names += [f"wind_cubed{label}", f"wind_curve{label}"]
        values += [np.minimum(v, 14.0) ** 3, generic_power_curve(v)]
        if rank == 0:
            around = [columns.index(f"{columns[i]}|{n}") for n in ("-1h", "+1h") if f"{columns[i]}|{n}" in columns]
            if len(around) == 2:
                before, after = (generic_power_curve(weather[:, k]) for k in around)
                names += ["wind_curve_around"]
                values += [np.where(np.isfinite(before + after), (before + 2 * values[1] + after) / 4, values[1])]
    if len(speeds) > 1:
        names.append("wind_shear")
        values.append(weather[:, speeds[0]] / np.maximum(weather[:, speeds[1]], 0.5))
    for i, name in enumerate(columns):
        if WIND_DIRECTION.search(name) and "|" not in name:
            turn = np.deg2rad(weather[:, i])
            names += [f"sin({name})", f"cos({name})"]
            values += [np.sin(turn), np.cos(turn)]
    return names, values


def height_of(column: str) -> float:
    """Height above ground in the name of a wind column [m], 0 where it has none; ``speed(U100)`` is 100."""
    heights = [float(number) for number in HEIGHT.findall(column) if 2 <= float(number) <= 300]
    return max(heights, default=0.0)


def generic_power_curve(speed_ms: Floats) -> Floats:
    """Share of rated power of a typical turbine at a wind speed [m/s] at hub height: cut-in 3, rated 12.5, cut-out 25.

    A logistic curve through the usual points, enough to straighten the relation for the models.
    """
    share = 1.0 / (1.0 + np.exp(-(speed_ms - 8.2) / 1.35))
    return np.where((speed_ms < 2.5) | (speed_ms > 25.0), 0.0, share)


def _weather_changes(rows: Rows, inputs: Inputs, weather: Floats) -> tuple[list[str], list[Floats]]:
    """Weather against that of the days the lags point to: what has to be added to the lagged value."""
    past, panel = inputs.past, inputs.weather
    plain = [i for i, c in enumerate(panel.columns) if "|" not in c and not c.startswith(("sin(", "cos("))][:6]
    first = lag_days(rows, past)
    zone = past.target.time_zone
    names: list[str] = []
    values: list[Floats] = []
    for label, days in (("day", first), ("week", 7 * -(-first // 7))):
        then = panel.lookup(wall_lag(rows.valid, days, zone), rows.issue)
        for i in plain:
            names.append(f"{panel.columns[i]}|against_lag_{label}")
            values.append(weather[:, i] - then[:, i])
    return names, values


def feature_matrix(rows: Rows, inputs: Inputs) -> tuple[list[str], Floats]:
    """Names and values of all features of `rows`.

    Parameters
    ----------
    rows : Rows
        Pairs of issue and valid time.
    inputs : Inputs
        Series and weather; later data than the issue of a row does not enter that row.

    Returns
    -------
    names : list of str
    matrix : ndarray, shape (len(rows), len(names))
        NaN where a feature was not known.
    """
    target, past = inputs.target, inputs.past
    names = ["lead_hours", *CALENDAR_FEATURES]
    lead = (rows.valid - rows.issue) / 60.0
    parts: list[Floats] = [lead[:, None], calendar_matrix(rows.valid, target.time_zone, target.country)]

    def add(found: tuple[list[str], list[Floats]]) -> None:
        names.extend(found[0])
        if found[1]:
            parts.append(np.column_stack(found[1]))

    add(_lags(rows, past))
    add(_levels(rows, past))
    if target.kind not in ("pv", "wind"):
        add((["lag_same_type"], [_same_type_lag(rows, past)]))
    weather = inputs.weather.lookup(rows.valid, rows.issue)
    if inputs.weather.columns:
        names.extend(inputs.weather.columns)
        parts.append(weather)
        if target.kind not in ("pv", "wind"):
            add(_weather_changes(rows, inputs, weather))
    if target.kind == "pv":
        add(_solar(rows, inputs, weather))
    if target.kind == "wind":
        add(_wind(inputs, weather))
    return names, np.column_stack(parts)

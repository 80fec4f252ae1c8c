"""What physics allows: no sun, no PV; nothing above the rated power; no negative generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.solar import InferredLocation, sun
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.targets import Location, Target
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

# the sun's refraction and the half width of an interval let a little light in below the horizon
NIGHT_ELEVATION_DEG = -4.0
# of a PV plant's largest power; less cannot be told from the night
NOTHING = 0.003
FORTNIGHTS = 27
SOLSTICE_DAY = 355


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bound of a target, and the hours of the year in which a PV plant gives nothing.

    Attributes
    ----------
    lower, upper : float
        In the unit of the series; infinite where there is no bound.
    dark : ndarray of bool, shape (24, 27), or None
        Where no location is known: local hours by fortnight of the year in which nothing was ever produced.
    """

    lower: float
    upper: float
    dark: np.ndarray | None = None

    def clip(self, values: Floats, minutes: Minutes, target: Target) -> Floats:
        """Bounded `values`, rows by `minutes`, of one or two dimensions; NaN stays."""
        out = np.clip(values, self.lower, self.upper)
        if target.kind == "pv":
            night = self.night(minutes, target)
            out[night] = np.where(np.isnan(out[night]), out[night], 0.0)
            if np.isfinite(self.upper):
                out[out < NOTHING * self.upper] = 0.0
        return out

    def night(self, minutes: Minutes, target: Target) -> np.ndarray:
        """Whether a PV plant is in the dark: by the sun where its place is configured, else by history."""
        place = _place(target)
        if place is not None:
            return sun(minutes, target.step_minutes, place)[0] < NIGHT_ELEVATION_DEG
        if self.dark is None:
            return np.zeros(minutes.size, dtype=bool)
        hour, fortnight = _slots(minutes, target)
        return self.dark[hour, fortnight]


def _place(target: Target) -> Location | None:
    """The configured place; one inferred from the data is too rough to say when it is night."""
    return None if isinstance(target.location, InferredLocation) else target.location


def _slots(minutes: Minutes, target: Target) -> tuple[Minutes, Minutes]:
    local = minutes + local_offset(minutes, target.time_zone)
    return local % DAY // 60, ((local // DAY) % 365.2425 // 14).astype(np.int64)


def bounds_of(inputs: Inputs) -> Bounds:
    """Bounds from the configuration, completed by what the history shows."""
    target, values = inputs.target, inputs.series.values
    good = values[np.isfinite(values)]
    if target.kind == "price":
        return Bounds(-np.inf, np.inf)
    lower = 0.0
    if target.kind in ("pv", "wind"):
        if target.kind == "wind" and good.size and (good < 0).mean() > 0.01:
            # a turbine at standstill draws its own consumption, if the meter shows it
            lower = float(np.quantile(good, 0.001))
        upper = target.capacity if target.capacity is not None else (float(good.max()) if good.size else np.inf)
        dark = _dark_hours(inputs) if target.kind == "pv" and _place(target) is None and good.size else None
        return Bounds(lower, upper, dark)
    if good.size and (good < 0).mean() > 0.001:
        lower = -np.inf
    return Bounds(lower, target.capacity if target.capacity is not None else np.inf)


def _dark_hours(inputs: Inputs) -> np.ndarray:
    """Hours without any production within a month around; never seen at all counts as light.

    A season that was never seen has the nights of the one as far on the other side of the solstice, less an hour at
    either end: the equation of time and daylight saving are not the same.
    """
    values, minutes = inputs.series.values, inputs.series.minutes
    hour, fortnight = _slots(minutes, inputs.target)
    light, seen = np.zeros((24, FORTNIGHTS), dtype=bool), np.zeros((24, FORTNIGHTS), dtype=bool)
    threshold = 1e-3 * float(np.nanmax(values))
    good = np.isfinite(values)
    seen[hour[good], fortnight[good]] = True
    lit = good & (values > threshold)
    light[hour[lit], fortnight[lit]] = True
    around = light | np.roll(light, 1, axis=1) | np.roll(light, -1, axis=1)
    enough = seen & np.roll(seen, 1, axis=1) & np.roll(seen, -1, axis=1)
    dark = ~around & enough
    middle = np.arange(FORTNIGHTS) * 14 + 7
    mirror = ((2 * SOLSTICE_DAY - middle) % 365) // 14
    long_dark = dark & np.roll(dark, 1, axis=0) & np.roll(dark, -1, axis=0)
    return np.where(seen.any(axis=0), dark, long_dark[:, mirror])

"""Power by frequency and reactive power by voltage: the curves of grid codes and of the grid operator, as tables.

Sources: Regulation (EU) 2016/631 (RfG) Art. 13(2) and 15(2) for LFSM-O and LFSM-U; IEEE 1547-2018, 6.5.2.7, for
frequency droop with a dead band.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """A piecewise linear curve, flat beyond its ends.

    Attributes
    ----------
    points : tuple of (float, float)
        At least two, the first coordinate rising: frequency [Hz] or voltage [per unit], and the response [per unit].

    Raises
    ------
    ValueError
        Less than two points, or a first coordinate that does not rise.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(f"a curve needs at least two points, {len(self.points)} given")
        for (low, _), (high, _) in zip(self.points, self.points[1:], strict=False):
            if high <= low:
                raise ValueError(f"points of a curve must rise: {high:g} follows {low:g}")

    def __call__(self, x: float) -> float:
        """Response at `x`."""
        xs = [point[0] for point in self.points]
        index = bisect_right(xs, x)
        if index == 0:
            return self.points[0][1]
        if index == len(xs):
            return self.points[-1][1]
        (x0, y0), (x1, y1) = self.points[index - 1], self.points[index]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def lfsm_over(frequency_hz: float, droop: float, threshold_hz: float = 50.2, nominal_hz: float = 50.0) -> float:
    """Change of power over the reference power when the frequency is high (LFSM-O); 0 or negative.

    Parameters
    ----------
    droop : float
        Relative change of frequency that takes the whole reference power, 0.02 to 0.12.
    """
    return -max(0.0, frequency_hz - threshold_hz) / nominal_hz / droop


def lfsm_under(frequency_hz: float, droop: float, threshold_hz: float = 49.8, nominal_hz: float = 50.0) -> float:
    """Change of power over the reference power when the frequency is low (LFSM-U); 0 or positive."""
    return max(0.0, threshold_hz - frequency_hz) / nominal_hz / droop


def fcr_share(frequency_hz: float, full_activation_hz: float = 0.2, nominal_hz: float = 50.0) -> float:
    """Share of the reserve that a provider of frequency containment reserve gives now, -1..1, without dead band."""
    return min(1.0, max(-1.0, (nominal_hz - frequency_hz) / full_activation_hz))


def ieee1547_power(
    frequency_hz: float,
    power_before: float,
    *,
    dead_band_hz: float = 0.036,
    droop: float = 0.05,
    power_min: float = 0.0,
    power_available: float = 1.0,
) -> float:
    """Active power under the frequency droop of IEEE 1547 [per unit of rating].

    Parameters
    ----------
    power_before : float
        Power before the event [per unit].
    dead_band_hz : float
        Deviation from 60 Hz that is left alone.
    droop : float
        Per-unit frequency deviation for one per unit of power.
    """
    deviation = frequency_hz - 60.0
    beyond = max(0.0, abs(deviation) - dead_band_hz) / (60.0 * droop)
    power = power_before - beyond if deviation > 0 else power_before + beyond
    return min(max(power, power_min), power_available)

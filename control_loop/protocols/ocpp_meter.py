"""What the meter values of a charge point say of its power, however it says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

POWER, EXPORT, ENERGY, CURRENT, VOLTAGE = (
    "Power.Active.Import",
    "Power.Active.Export",
    "Energy.Active.Import.Register",
    "Current.Import",
    "Voltage",
)
NOMINAL_V = 230.0
"""Of a phase against neutral, where the charge point does not tell its voltage."""
LEAST_S, MOST_S = 5.0, 1800.0
"""Readings nearer to each other tell little (registers count whole Wh), readings further apart nothing of now."""
_ELSEWHERE = frozenset({"EV", "Body"})
"""Places that are not between the grid and the cable."""
_NEAREST = {"Cable": 1, "Inlet": 2}
"""Of several places the outlet counts, which OCPP means where none is named."""


def told_power_kw(samples: Sequence[Mapping[str, Any]], phases: int = 3) -> float | None:
    """Power of a connector [kW] from one set of its samples.

    Parameters
    ----------
    samples : sequence of mapping
        ``sampledValue`` of OCPP 1.6 with the library's names.
    phases : int
        Of the connector; a current without a phase flows in each of them.

    Returns
    -------
    float or None
        The total where it is told, else the sum of the phases, less what the car gives back; else from currents and
        voltages (at a power factor of 1); not a number where the charge point says so, None where it says nothing of
        power.

    References
    ----------
    Open Charge Alliance, OCPP 1.6 edition 2, 7.31 (Measurand) and 7.33 (Phase).
    """
    directions = [_by_phase(samples, measurand, {"kW": 1.0}, 1e-3) for measurand in (POWER, EXPORT)]
    if any(directions):
        taken, given = (power.get("", sum(value for phase, value in power.items() if phase)) for power in directions)
        return taken - given
    current = _by_phase(samples, CURRENT, {}, 1.0)
    if not current:
        return None
    voltage = _by_phase(samples, VOLTAGE, {"kV": 1e3}, 1.0)
    common_v = voltage.get("", NOMINAL_V)
    single = {phase: value for phase, value in current.items() if phase} or dict.fromkeys(range(phases), current[""])
    return math.fsum(value * voltage.get(str(phase), common_v) for phase, value in single.items()) / 1000.0


def energy_wh(sample: Mapping[str, Any]) -> float | None:
    """Reading of the energy register [Wh]; None for a sample of something else, of one phase, or without a number."""
    if sample.get("measurand", ENERGY) != ENERGY or sample.get("phase") is not None:
        return None
    value = _number(sample)
    return None if value is None or not math.isfinite(value) else value * (1e3 if sample.get("unit") == "kWh" else 1.0)


@dataclass(slots=True)
class CountedPower:
    """Mean power between two readings of an energy register: all that many charge points tell (OCPP's own default)."""

    _last: tuple[datetime, float] | None = None

    def power_kw(self, stamp: datetime | None, energy_wh: float | None) -> float | None:
        """Mean power since the reading before [kW]; None where there is none, or it tells nothing.

        Parameters
        ----------
        stamp : datetime or None
            When the charge point read its register.
        energy_wh : float or None
            What it read [Wh].
        """
        if stamp is None or energy_wh is None:
            return None
        before = self._last
        seconds = math.inf if before is None else (stamp - before[0]).total_seconds()
        if 0.0 <= seconds < LEAST_S:
            return None
        self._last = stamp, energy_wh
        if before is None or not LEAST_S <= seconds <= MOST_S or energy_wh < before[1]:
            return None
        return 3.6 * (energy_wh - before[1]) / seconds


def told_soc(samples: Sequence[Mapping[str, Any]]) -> float | None:
    """State of charge of the car 0..1, None where it is not told."""
    values = [_number(sample) for sample in samples if sample.get("measurand") == "SoC"]
    return next((value / 100.0 for value in values if value is not None and 0.0 <= value <= 100.0), None)


def _by_phase(
    samples: Sequence[Mapping[str, Any]], measurand: str, factors: Mapping[str, float], usual: float
) -> dict[Any, float]:
    """Values of a measurand by phase (``L1`` for ``L1`` and ``L1-N``), the total under an empty name."""
    found: dict[Any, float] = {}
    for sample in sorted(samples, key=lambda sample: -_NEAREST.get(sample.get("location", ""), 0)):
        phase = str(sample.get("phase") or "").removesuffix("-N")
        value = _number(sample)
        if sample.get("measurand") != measurand or sample.get("location") in _ELSEWHERE or value is None:
            continue
        if phase in {"", "L1", "L2", "L3"}:  # not the neutral, nor between two phases
            found[phase] = value * factors.get(str(sample.get("unit")), usual)
    return found


def _number(sample: Mapping[str, Any]) -> float | None:
    if sample.get("format") == "SignedData":  # a signature's digits may read like a number
        return None
    try:
        return float(sample["value"])
    except ValueError:
        return None

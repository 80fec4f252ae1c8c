"""What smart meters report: the objects of S29 load profiles and S21 instantaneous values, and what they mean here.

References
----------
IEC 62056-6-1, Object Identification System (OBIS): group C tells the quantity (1 active import, 2 active export, 5–8
reactive quadrants, 21/41/61 and 22/42/62 the same per phase, 32/52/72 voltages), group D how it is processed (7
instantaneous, 8 counter, 29 increment over the recording interval).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Report = Literal["S29", "S21", "register"]

PROFILE_PERIOD_S = 300
INSTANT_PERIOD_S = 60


@dataclass(frozen=True, slots=True)
class MeterObject:
    """One value a meter can be asked for.

    Attributes
    ----------
    code : str
        Short name, such as ``AIi`` or ``AIi_L1``.
    obis : str
        Reduced identifier C.D.E.
    report : str
        ``S29`` (load profile), ``S21`` (instantaneous) or ``register`` (counters).
    unit : str
        kWh, kvarh, kW, kvar or V.
    period_s : int
        How often it is collected unless a job says otherwise [s].
    priority : int
        1 is read first when time is short.
    """

    code: str
    obis: str
    report: Report
    unit: str
    period_s: int
    priority: int

    @property
    def full_obis(self) -> str:
        """Identifier with medium and channel, as meters write it."""
        return f"1-0:{self.obis}.255"


def _profile() -> tuple[MeterObject, ...]:
    whole = [("AIi", "1", "kWh"), ("AEi", "2", "kWh")]
    whole += [(f"R{quadrant}i", str(quadrant + 4), "kvarh") for quadrant in (1, 2, 3, 4)]
    phases = [
        (f"{name}i_L{phase}", str(20 * phase + offset), "kWh")
        for phase in (1, 2, 3)
        for name, offset in (("AI", 1), ("AE", 2))
    ]
    return tuple(
        MeterObject(code, f"{group}.29.0", "S29", unit, PROFILE_PERIOD_S, 1 if code in {"AIi", "AEi"} else 2)
        for code, group, unit in whole + phases
    )


def _instant() -> tuple[MeterObject, ...]:
    rows = []
    for phase in (1, 2, 3):
        base = 20 * phase
        rows += [
            (f"P_imp_L{phase}", base + 1, "kW", 1),
            (f"P_exp_L{phase}", base + 2, "kW", 1),
            (f"Q_imp_L{phase}", base + 3, "kvar", 2),
            (f"Q_exp_L{phase}", base + 4, "kvar", 2),
            (f"V_L{phase}", base + 12, "V", 2),
        ]
    return tuple(
        MeterObject(code, f"{group}.7.0", "S21", unit, INSTANT_PERIOD_S, priority)
        for code, group, unit, priority in rows
    )


S29 = _profile()
S21 = _instant()
REGISTERS = (
    MeterObject("AI", "1.8.0", "register", "kWh", 3600, 3),
    MeterObject("AE", "2.8.0", "register", "kWh", 3600, 3),
)
CATALOGUE = S29 + S21 + REGISTERS

_BY_OBIS = {item.obis: item for item in CATALOGUE}
_BY_CODE = {item.code: item for item in CATALOGUE}
_OBIS = re.compile(r"^(?:\d{1,3}-\d{1,3}:)?(\d{1,3}\.\d{1,3}\.\d{1,3})(?:[.*&]\d{1,3})?$")


def by_name(name: str) -> MeterObject | None:
    """The object of a code (``AIi``) or an OBIS identifier as it is usually spelt (``1-0:1.29.0.255``, ``1.29.0``)."""
    if name in _BY_CODE:
        return _BY_CODE[name]
    match = _OBIS.match(name.strip())
    return _BY_OBIS.get(match[1]) if match else None


def platform_values(values: Mapping[str, float], period_s: float) -> dict[str, float]:
    """What a meter's values of one interval are as quantities of the platform.

    Parameters
    ----------
    values : mapping
        Code of the object → value in its unit, all of one interval.
    period_s : float
        Length of the interval that increments cover [s].

    Returns
    -------
    dict
        ``active_power_kw`` and ``reactive_power_kvar`` (positive when drawn from the grid), ``voltage_l1_v`` ...,
        ``import_energy_kwh``, ``export_energy_kwh``, and by phase ``active_power_l1_kw``,
        ``reactive_power_l1_kvar`` ...; only what follows from the values that are there. A direction that was not
        reported counts as none in that direction, because meters leave out channels they do not have; phases
        count only when all three are there.
    """
    hours = period_s / 3600.0
    found: dict[str, float] = {}
    active = _net(values, "AIi", "AEi")
    if active is None:
        active = _net_of_phases(values, "AIi_L", "AEi_L")
    power = active / hours if active is not None else _net_of_phases(values, "P_imp_L", "P_exp_L")
    if power is not None:
        found["active_power_kw"] = power
    quadrants = [values.get(f"R{q}i") for q in (1, 2, 3, 4)]
    if any(value is not None for value in quadrants):
        drawn, given = sum(q or 0.0 for q in quadrants[:2]), sum(q or 0.0 for q in quadrants[2:])
        found["reactive_power_kvar"] = (drawn - given) / hours
    elif (reactive := _net_of_phases(values, "Q_imp_L", "Q_exp_L")) is not None:
        found["reactive_power_kvar"] = reactive
    found |= {f"voltage_l{phase}_v": values[f"V_L{phase}"] for phase in (1, 2, 3) if f"V_L{phase}" in values}
    for phase in (1, 2, 3):
        own = _net(values, f"AIi_L{phase}", f"AEi_L{phase}")
        own = own / hours if own is not None else _net(values, f"P_imp_L{phase}", f"P_exp_L{phase}")
        if own is not None:
            found[f"active_power_l{phase}_kw"] = own
        if (reactive := _net(values, f"Q_imp_L{phase}", f"Q_exp_L{phase}")) is not None:
            found[f"reactive_power_l{phase}_kvar"] = reactive
    found |= {
        name: values[code]
        for code, name in (("AI", "import_energy_kwh"), ("AE", "export_energy_kwh"))
        if code in values
    }
    return found


def _net(values: Mapping[str, float], drawn: str, given: str) -> float | None:
    if drawn not in values and given not in values:
        return None
    return values.get(drawn, 0.0) - values.get(given, 0.0)


def _net_of_phases(values: Mapping[str, float], drawn: str, given: str) -> float | None:
    phases = [_net(values, f"{drawn}{phase}", f"{given}{phase}") for phase in (1, 2, 3)]
    known = [phase for phase in phases if phase is not None]
    return sum(known) if len(known) == len(phases) else None

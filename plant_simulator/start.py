"""Where batteries and energy registers of a plant begin: as somebody says, or where a history that he knows ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from plant_simulator.plant import REGISTERS, Plant


@dataclass(frozen=True, slots=True)
class KnownSoc:
    """A state of charge.

    Attributes
    ----------
    target : str
        ``<site>/<battery>``, or empty for every battery.
    soc : float
        Fraction of usable capacity.
    time : datetime or None
        When it was read; None is an order that holds whatever the plant remembers.
    """

    target: str
    soc: float
    time: datetime | None


def parse_soc(text: str) -> KnownSoc:
    """A state of charge as the command line gives it: ``0.4``, ``site/ess-1=0.4`` or ``site/ess-1=0.4@<ISO time>``.

    Raises
    ------
    ValueError
        If it is none of these, or outside 0..1.
    """
    target, given, rest = text.rpartition("=")
    number, at, stamp = rest.partition("@")
    try:
        soc = float(number)
        time = datetime.fromisoformat(stamp) if at else None
    except ValueError:
        soc, time = math.nan, None
    if not 0.0 <= soc <= 1.0 or (given and not target) or (time is not None and time.tzinfo is None):
        raise ValueError(
            f"--soc {text}: must be a fraction 0..1, <site>/<battery>=<fraction>, or that with @ and the time of the "
            "reading (ISO, with its zone)"
        )
    return KnownSoc(target, soc, time)


@dataclass(frozen=True, slots=True)
class KnownRegister:
    """The reading of an energy register.

    Attributes
    ----------
    target : str
        ``<site>/<meter's asset>``.
    quantity : str
        ``import_energy_kwh`` or ``export_energy_kwh``.
    kwh : float
        Reading [kWh].
    time : datetime or None
        When it was read; None is an order that holds whatever the plant remembers.
    """

    target: str
    quantity: str
    kwh: float
    time: datetime | None


def parse_register(text: str) -> KnownRegister:
    """A reading as the command line gives it: ``site/pcc/import_energy_kwh=1234.5``, with ``@<ISO time>`` or not.

    Raises
    ------
    ValueError
        If it is none of these, or not a number from 0 on.
    """
    name, _, rest = text.partition("=")
    target, _, quantity = name.rpartition("/")
    number, at, stamp = rest.partition("@")
    try:
        kwh = float(number)
        time = datetime.fromisoformat(stamp) if at else None
    except ValueError:
        kwh, time = math.nan, None
    named = target.count("/") == 1 and quantity in REGISTERS
    if not named or not 0.0 <= kwh < math.inf or (time is not None and time.tzinfo is None):
        raise ValueError(
            f"--register {text}: must be <site>/<asset>/{' or '.join(REGISTERS)}=<kWh from 0 on>, or that with @ and "
            "the time of the reading (ISO, with its zone)"
        )
    return KnownRegister(target, quantity, kwh, time)


def go_on_counting(
    plants: Mapping[str, Plant], known: Sequence[KnownRegister], remembered_at: Mapping[str, datetime]
) -> list[str]:
    """Set what is known of the registers; a reading older than what the site's plant remembers is left alone.

    Returns
    -------
    list of str
        The registers that were set.

    Raises
    ------
    ValueError
        If one names a register that is not there while its site is.
    """
    found: list[str] = []
    for one in known:
        site_id, _, asset_id = one.target.partition("/")
        if site_id not in plants:
            if one.time is None:
                raise ValueError(f"--register: no site {site_id} is simulated; known: {', '.join(sorted(plants))}")
            continue
        if _outdated(one, site_id, remembered_at):
            continue
        plants[site_id].set_register(asset_id, one.quantity, one.kwh)
        found.append(f"{one.target}/{one.quantity}")
    return found


def begin_at(
    plants: Mapping[str, Plant], known: Sequence[KnownSoc], remembered_at: Mapping[str, datetime]
) -> list[str]:
    """Set what is known of the batteries; a reading that is older than what the plants remember is left alone.

    Parameters
    ----------
    plants : mapping
        Plants by site id.
    known : sequence of KnownSoc
        Later ones go before earlier ones.
    remembered_at : mapping
        Time of what each site's plant remembers; nothing for those that begin afresh.

    Returns
    -------
    list of str
        The batteries that were set.

    Raises
    ------
    ValueError
        If one names a battery that is not there while its site is.
    """
    batteries = {f"{site_id}/{key}": b for site_id, plant in plants.items() for key, b in plant.batteries.items()}
    found: list[str] = []
    for one in known:
        if one.target and one.target not in batteries:
            if one.time is None or one.target.partition("/")[0] in plants:
                raise ValueError(f"--soc: no battery {one.target} is simulated; known: {', '.join(sorted(batteries))}")
            continue
        if _outdated(one, one.target.partition("/")[0], remembered_at):
            continue
        for target in [one.target] if one.target else batteries:
            batteries[target].energy_kwh = one.soc * batteries[target].usable_capacity_kwh
            found.append(target)
    return list(dict.fromkeys(found))


def _outdated(one: KnownSoc | KnownRegister, site_id: str, remembered_at: Mapping[str, datetime]) -> bool:
    """Whether the site's plant remembers something newer."""
    return one.time is not None and site_id in remembered_at and one.time <= remembered_at[site_id]

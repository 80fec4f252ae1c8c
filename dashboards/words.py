"""Numbers and times as an operator reads them: with unit, with the site's time zone, never a bare NaN."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

NO_VALUE = "–"


def number(value: float | None, digits: int = 1) -> str:
    """A number with a thin space between thousands; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    rounded = round(value, digits)
    return f"{rounded + 0.0:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def power(value_kw: float | None) -> str:
    """Active power, in MW from 10 MW on."""
    if value_kw is not None and abs(value_kw) >= 10_000:
        return f"{number(value_kw / 1000, 2)} MW"
    return f"{number(value_kw)} kW"


def reactive_power(value_kvar: float | None) -> str:
    """Reactive power, in Mvar from 10 Mvar on."""
    if value_kvar is not None and abs(value_kvar) >= 10_000:
        return f"{number(value_kvar / 1000, 2)} Mvar"
    return f"{number(value_kvar)} kvar"


SETPOINT_WORDS = {
    "active_power_setpoint_kw": "setpoint",
    "active_power_limit_kw": "limit",
    "reactive_power_setpoint_kvar": "reactive",
}
"""What a quantity that is sent to a device means to an operator."""


_QUANTITY_WORDS = {
    "active_power_kw": "power",
    "soc": "SoC",
    "soh": "SoH",
    "bms_alarm_word": "alarm word of the battery management",
    "max_charge_kw": "most it can charge",
    "max_discharge_kw": "most it can discharge",
}
_PHASE = re.compile(r"^(active_power|reactive_power|voltage)_l([123])_")
_UNIT_AT_END = re.compile(r"_(kw|kwh|kvar|hz|v|c|kvah)$")


def quantity_words(quantity: str) -> str:
    """What a quantity is called on a screen, without its unit."""
    if quantity in _QUANTITY_WORDS:
        return _QUANTITY_WORDS[quantity]
    phase = _PHASE.match(quantity)
    if phase:
        name = {"active_power": "power", "reactive_power": "reactive power"}.get(phase[1], phase[1])
        return f"{name} L{phase[2]}"
    return _UNIT_AT_END.sub("", quantity).replace("_", " ")


def energy(value_kwh: float | None) -> str:
    """Energy, in MWh from 10 MWh on."""
    if value_kwh is not None and abs(value_kwh) >= 10_000:
        return f"{number(value_kwh / 1000, 2)} MWh"
    return f"{number(value_kwh)} kWh"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as per cent."""
    return f"{number(None if fraction is None else fraction * 100, digits)} %"


def euro(value_eur: float | None) -> str:
    """Money in EUR, two decimals."""
    return f"{number(value_eur, 2)} EUR"


def price(value_eur_per_kwh: float | None) -> str:
    """A price as the market quotes it, in EUR/MWh."""
    return f"{number(None if value_eur_per_kwh is None else value_eur_per_kwh * 1000, 1)} EUR/MWh"


def with_unit(value: float | None, unit: str) -> str:
    """A value of a named unit; fractions become per cent, money gets two decimals."""
    if unit in {"fraction", "1"}:
        return percent(value)
    if unit == "EUR":
        return euro(value)
    digits = 4 if unit == "EUR/kWh" else 2 if value is not None and abs(value) < 10 else 1
    return f"{number(value, digits)} {unit}".strip()


def clock_time(moment: datetime, zone: ZoneInfo) -> str:
    """Hour, minute and second on the site's own clock."""
    return f"{moment.astimezone(zone):%H:%M:%S}"


def local_time(moment: datetime, zone: ZoneInfo) -> str:
    """Day, hour and minute on the site's own clock."""
    return f"{moment.astimezone(zone):%a %d %b %H:%M}"


def zone_label(moment: datetime, zone: ZoneInfo) -> str:
    """The zone by name with its offset at that moment, as ``Europe/Amsterdam (UTC+01:00)``."""
    offset = moment.astimezone(zone).utcoffset() or timedelta()
    minutes = round(offset.total_seconds() / 60)
    sign = "−" if minutes < 0 else "+"
    return f"{zone.key} (UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d})"


def duration(seconds: float) -> str:
    """A span in its two largest units: ``4 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    for unit_s, unit, small_s, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // small_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def plain(text: str) -> str:
    """Text of people as it stands, where Markdown is drawn: none of it becomes a link, a picture or bold."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:-])", r"\\\1", text)

"""What a battery management system reports: warnings and alarms as bits of one word, as SunSpec numbers them.

References
----------
SunSpec Alliance, information model 802 (battery base), point Evt1.
"""

from __future__ import annotations

from enum import IntEnum

HIGHEST_EVENT = 30
"""Bit 31 alone means "not implemented"."""
HOT_C, TOO_HOT_C = 45.0, 55.0
COLD_C, TOO_COLD_C = 5.0, 0.0
NEARLY_EMPTY_SOC, NEARLY_FULL_SOC = 0.05, 0.95


class BmsEvent(IntEnum):
    """Number of a bit of the alarm word; only what the simulated management reports by itself has a name here."""

    OVER_TEMPERATURE_ALARM = 1
    OVER_TEMPERATURE_WARNING = 2
    UNDER_TEMPERATURE_ALARM = 3
    UNDER_TEMPERATURE_WARNING = 4
    UNDER_SOC_WARNING = 14
    OVER_SOC_WARNING = 16
    GROUND_FAULT = 22


def alarm_word(temperature_c: float, soc: float, *, tripped: bool, raised: frozenset[int] = frozenset()) -> int:
    """Alarms and warnings in force, as bits.

    Parameters
    ----------
    temperature_c : float
        Temperature of the hottest (or coldest) cells [°C].
    soc : float
        State of charge, fraction of usable capacity.
    tripped : bool
        The insulation monitor has opened the contactors.
    raised : frozenset of int
        Further bits, 0..30.
    """
    standing = {
        BmsEvent.OVER_TEMPERATURE_ALARM: temperature_c >= TOO_HOT_C,
        BmsEvent.OVER_TEMPERATURE_WARNING: HOT_C < temperature_c < TOO_HOT_C,
        BmsEvent.UNDER_TEMPERATURE_ALARM: temperature_c <= TOO_COLD_C,
        BmsEvent.UNDER_TEMPERATURE_WARNING: TOO_COLD_C < temperature_c < COLD_C,
        BmsEvent.UNDER_SOC_WARNING: soc <= NEARLY_EMPTY_SOC,
        BmsEvent.OVER_SOC_WARNING: soc >= NEARLY_FULL_SOC,
        BmsEvent.GROUND_FAULT: tripped,
    }
    return sum(1 << bit for bit in {*raised, *(event for event, stands in standing.items() if stands)})

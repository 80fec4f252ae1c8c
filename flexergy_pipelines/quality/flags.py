"""Reasons that cleansing gives: one word for what was found or done, and what it means.

Raw values stay as they are; the clean series carries at most one flag a value, null where the value is untouched.
"""

from __future__ import annotations

from typing import Final

OUT_OF_RANGE: Final = "out_of_range"
SPIKE: Final = "spike"
FROZEN: Final = "frozen"
COUNTER_RESET: Final = "counter_reset"
UNIT_SLIP: Final = "unit_slip"
SIGN_FLIP: Final = "sign_flip"
NIGHT_OUTPUT: Final = "night_output"
NEGATIVE: Final = "negative"
SENTINEL: Final = "sentinel"
ANOMALY: Final = "anomaly"
NOT_A_NUMBER: Final = "not_a_number"
BAD_TIME: Final = "bad_time"
DUPLICATE_TIME: Final = "duplicate_time"
CLOCK_DRIFT: Final = "clock_drift"
SWAPPED_PHASES: Final = "swapped_phases"
INTERPOLATED: Final = "interpolated"
SIMILAR_DAY: Final = "similar_day"
DONOR: Final = "donor"
MODEL: Final = "model"
NIGHT_ZERO: Final = "night_zero"
OUTAGE: Final = "outage"
MISSING: Final = "missing"

DESCRIPTIONS: Final[dict[str, str]] = {
    OUT_OF_RANGE: "outside what the nameplate allows; replaced by an estimate",
    SPIKE: "jumps away from its neighbours and back; replaced by an estimate",
    FROZEN: "stood still longer than this kind of series does; replaced by an estimate",
    COUNTER_RESET: "the counter began anew or rolled over; what was counted before is added",
    UNIT_SLIP: "reported in another unit (W for kW, a factor of 10, 100 or 1000); scaled back",
    SIGN_FLIP: "reported with the wrong sign; turned",
    NIGHT_OUTPUT: "PV output between dusk and dawn; set to zero",
    NEGATIVE: "negative where only consumption or generation is possible; replaced by an estimate",
    SENTINEL: "a number that stands for 'no value' (such as -999999); replaced by an estimate",
    NOT_A_NUMBER: "text, true, NaN or infinity where a number belongs; replaced by an estimate",
    BAD_TIME: "stamped with a time that cannot be read or cannot be right; left as it is and not used",
    ANOMALY: "unlike anything in the history of the series; replaced by an estimate",
    DUPLICATE_TIME: "a second value for the same instant; the first one counts",
    CLOCK_DRIFT: "stamped by a clock that was wrong; moved to where it belongs",
    SWAPPED_PHASES: "two phases were exchanged; put back",
    INTERPOLATED: "was missing; linear between its neighbours",
    SIMILAR_DAY: "was missing; from the same hours of the nearest similar days, fitted to both edges of the gap",
    DONOR: "was missing; from another series that moves with this one",
    MODEL: "was missing; from a model of season, hour and neighbours",
    NIGHT_ZERO: "was missing at night; PV gives nothing then",
    OUTAGE: "missing for too long to be estimated; left empty",
    MISSING: "missing and not to be estimated; left empty",
}

# Found wrong in what came in, against filled in where nothing came in.
DETECTED: Final = frozenset(
    {
        OUT_OF_RANGE,
        SPIKE,
        FROZEN,
        COUNTER_RESET,
        UNIT_SLIP,
        SIGN_FLIP,
        NIGHT_OUTPUT,
        NEGATIVE,
        SENTINEL,
        ANOMALY,
        NOT_A_NUMBER,
        BAD_TIME,
        DUPLICATE_TIME,
        CLOCK_DRIFT,
        SWAPPED_PHASES,
    }
)
IMPUTED: Final = frozenset({INTERPOLATED, SIMILAR_DAY, DONOR, MODEL, NIGHT_ZERO})
EMPTY: Final = frozenset({OUTAGE, MISSING})

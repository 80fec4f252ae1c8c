"""Cleansing of one regular series: detect, take out, impute, and say what was done to each value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.imputation import impute
from flexergy_pipelines.quality.profile import clear_sky
from flexergy_pipelines.quality.rules.counters import counter_faults, is_counter
from flexergy_pipelines.quality.rules.ranges import negative, night_output, out_of_range, sentinels, turned
from flexergy_pipelines.quality.rules.slips import unit_slips
from flexergy_pipelines.quality.rules.spikes import spikes
from flexergy_pipelines.quality.rules.standing import dead, frozen, stuck
from flexergy_pipelines.quality.spec import SeriesSpec

Values = NDArray[np.float64]
Codes = NDArray[np.uint8]

FLAGS: Final[tuple[str, ...]] = ("", *flags.DESCRIPTIONS)
CODE: Final[dict[str, int]] = {name: code for code, name in enumerate(FLAGS)}
_NAMES: Final = pl.Series([None, *flags.DESCRIPTIONS], dtype=pl.String)
KEPT_BYTES: Final = 30_000_000  # freed memory that stays with the process; never touched, so it costs none
_EMPTY: Final = [CODE[name] for name in flags.EMPTY]


@dataclass(frozen=True, slots=True)
class Cleansed:
    """Result of cleansing one series: arrays of the length of the input.

    Attributes
    ----------
    values : ndarray
        Clean values; NaN where there is none.
    codes : ndarray of uint8
        Index into `FLAGS`; 0 where the value is untouched.
    uncertainty : ndarray
        Standard deviation of estimates; NaN elsewhere.
    """

    values: Values
    codes: Codes
    uncertainty: Values


@cache
def _keep_memory() -> None:
    """Let the C library keep what is freed.

    glibc gives blocks of this size back to the system at once until a larger one was freed (mallopt(3), "dynamic mmap
    threshold"); each of the hundred arrays that a series takes would be paged in anew, a sixth of all the time.
    """
    np.empty(KEPT_BYTES, dtype=np.uint8)


def detect(values: Values, spec: SeriesSpec) -> tuple[Values, Codes]:
    """What is wrong in a regular series.

    Returns
    -------
    values : ndarray
        With wrong values put right where that is possible (unit, sign, night) and NaN where they must be estimated.
    codes : ndarray of uint8
        Why; 0 where the value is untouched.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    codes = np.zeros(values.size, dtype=np.uint8)

    def take_out(mask: NDArray[np.bool_], reason: str) -> None:
        if mask.any():
            codes[mask] = CODE[reason]
            values[mask] = np.nan

    take_out(sentinels(values), flags.SENTINEL)
    if spec.kind == "counter" or (spec.kind in ("meter", "load") and is_counter(values)):
        return _detect_counter(values, codes, spec)
    take_out(frozen(values, spec), flags.FROZEN)
    # A spike must not be taken for the beginning of another unit.
    spiky = spikes(values, spec)
    slipped, factor = unit_slips(values, np.where(spiky, np.nan, values), spec)
    known = np.isfinite(values).sum()
    if slipped.any():
        values[slipped] /= factor[slipped]
        codes[slipped] = CODE[flags.UNIT_SLIP]
    mirrored = turned(values, spec)
    if mirrored.any():
        values[mirrored] = -values[mirrored]
        codes[mirrored] = CODE[flags.SIGN_FLIP]
    take_out(negative(values, spec), flags.NEGATIVE)
    take_out(out_of_range(values, spec), flags.OUT_OF_RANGE)
    sky = None
    if spec.kind == "pv":
        sky = clear_sky(np.where(spiky, np.nan, values), spec.steps_per_day, spec.first_slot)
    dark = night_output(values, spec, sky)
    if dark.any():
        values[dark] = 0.0
        codes[dark] = CODE[flags.NIGHT_OUTPUT]
    changed = slipped.any() or mirrored.any() or spec.kind == "pv" or np.isfinite(values).sum() < known
    take_out(spikes(values, spec, sky) if changed else spiky, flags.SPIKE)
    take_out(dead(values, spec, sky), flags.FROZEN)
    return values, codes


def _detect_counter(values: Values, codes: Codes, spec: SeriesSpec) -> tuple[Values, Codes]:
    wrong = out_of_range(values, spec)
    values[wrong] = np.nan
    codes[wrong] = CODE[flags.OUT_OF_RANGE]
    still = stuck(values, spec)
    values[still] = np.nan
    codes[still] = CODE[flags.FROZEN]
    off, reset, factor = counter_faults(values)
    slipped = off & (factor != 1)
    values[slipped] /= factor[slipped]
    codes[slipped] = CODE[flags.UNIT_SLIP]
    off &= ~slipped
    values[off] = np.nan
    codes[off] = CODE[flags.SPIKE]
    codes[reset] = CODE[flags.COUNTER_RESET]
    return values, codes


def cleanse(values: Values, spec: SeriesSpec, donors: list[Values] | None = None) -> Cleansed:
    """Detect and impute one regular series given as an array (NaN where nothing was measured).

    `donors` are other series of the same axis, which may help to fill gaps of this one.
    """
    _keep_memory()
    detected, found = detect(values, spec)
    if spec.kind in ("meter", "load") and is_counter(detected):
        spec = replace(spec, kind="counter")
    clean, reason, uncertainty = impute(detected, spec, donors)
    # What was found wrong is the more telling reason, unless nothing could be put in its place.
    codes = np.where((found != 0) & ~np.isin(reason, _EMPTY), found, reason).astype(np.uint8)
    return Cleansed(clean, codes, uncertainty)


def clean_series(frame: pl.DataFrame, spec: SeriesSpec) -> pl.DataFrame:
    """Cleanse a series that has one row an interval.

    Parameters
    ----------
    frame : DataFrame
        `time` and `value` (null where nothing was measured), in order of time, one row for each interval.
    spec : SeriesSpec
        What is known of the series.

    Returns
    -------
    DataFrame
        `time`, `value`, `flag` (null: the value is as it came; else see `flexergy_pipelines.quality.flags`) and
        `uncertainty` (standard deviation of an estimate, null for measured values).
    """
    values = frame["value"].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
    if frame.height and isinstance(frame.schema["time"], pl.Datetime):
        first = frame["time"][0]
        minute = first.hour * 60 + first.minute
        spec = replace(spec, first_slot=int(minute // spec.step_minutes))
    result = cleanse(values, spec)
    return pl.DataFrame(
        {
            "time": frame["time"],
            "value": pl.Series(result.values).fill_nan(None),
            "flag": flag_names(result.codes),
            "uncertainty": pl.Series(result.uncertainty).fill_nan(None),
        }
    )


def flag_names(codes: Codes) -> pl.Series:
    """Names of flags, null for untouched."""
    return _NAMES.gather(codes).rename("flag")

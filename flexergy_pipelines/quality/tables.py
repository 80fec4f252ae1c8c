"""Cleansing of a table: first column time, every other column of numbers a channel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.axis import DAY_US, Axis, make_axis
from flexergy_pipelines.quality.files import FileError, Table, to_numbers
from flexergy_pipelines.quality.kinds import infer_kind
from flexergy_pipelines.quality.names import kind_by_name
from flexergy_pipelines.quality.observable import ObservablePeriod, most_observable
from flexergy_pipelines.quality.profile import by_day
from flexergy_pipelines.quality.rules.counters import is_counter
from flexergy_pipelines.quality.series import CODE, cleanse, flag_names
from flexergy_pipelines.quality.spec import SeriesKind, SeriesSpec
from flexergy_pipelines.quality.stamps import parse_times
from flexergy_pipelines.quality.tails import robust_size

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DayShares:
    """Share of usable values by day, days in a row."""

    days: list[date]
    shares: Values


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """What was done to one channel.

    Attributes
    ----------
    counts : dict
        Rows by flag.
    coverage : float
        Share of rows with a measured value that is untouched.
    days : DayShares
        That share by day.
    """

    kind: SeriesKind
    counts: dict[str, int]
    coverage: float
    observable: ObservablePeriod | None
    days: DayShares = field(default_factory=lambda: DayShares([], np.zeros(0)))

    def as_dict(self) -> dict[str, Any]:
        period = self.observable
        return {
            "kind": self.kind,
            "counts": self.counts,
            "coverage": round(self.coverage, 6),
            "most_observable_period": None
            if period is None
            else {"first": period.first.isoformat(), "last": period.last.isoformat(), "reason": period.reason},
        }


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was done to a table."""

    rows: int
    step_minutes: float
    channels: dict[str, ChannelReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        total: Counter[str] = Counter()
        for channel in self.channels.values():
            total.update(channel.counts)
        coverages = [channel.coverage for channel in self.channels.values()]
        return {
            "rows": self.rows,
            "step_minutes": round(self.step_minutes, 4),
            "counts": dict(total.most_common()),
            "coverage": round(float(np.mean(coverages)), 6) if coverages else 0.0,
            "channels": {name: channel.as_dict() for name, channel in self.channels.items()},
        }


def clean_table(
    table: Table,
    kind: SeriesKind | None = None,
    capacity_kw: float | None = None,
    *,
    kinds: dict[str, SeriesKind] | None = None,
    core: slice | None = None,
) -> tuple[pl.DataFrame, TableReport]:
    """Cleanse every channel of a table.

    Parameters
    ----------
    kind : str or None
        Kind of all channels whose names do not speak of weather, a price or a state; None means that each is told by
        its looks.
    capacity_kw : float or None
        Nameplate of each channel.
    kinds : dict, optional
        The channels and their kinds where they are known already, as in a later piece of a file.
    core : slice, optional
        Rows that the report is about; the others are only looked at.

    Returns
    -------
    DataFrame
        The table's rows and columns, each channel followed at the end by a column `<name>_flag`.
    TableReport

    Raises
    ------
    FileError
        The first column holds no times, no column holds numbers, or a flag column is there already.
    """
    frame = table.frame
    stamp = frame.columns[0]
    times, known, zoned = parse_times(frame[stamp])
    if known.sum() < max(1, 0.5 * frame.height):
        example = frame[stamp].drop_nulls().head(1).to_list()
        raise FileError(f"first column {stamp}: holds no times (such as {example[0] if example else 'nothing'})")
    channels: dict[str, tuple[pl.Series, pl.Series]] = {}
    for name in frame.columns[1:]:
        if kinds is not None and name not in kinds:
            continue
        numbers = to_numbers(frame[name], decimal_comma=table.decimal_comma, at_least=0.8 if kinds is None else 0.0)
        if numbers is not None:
            channels[name] = numbers
    if not channels:
        raise FileError(f"no column beside {stamp} holds numbers")
    for name in channels:
        if f"{name}_flag" in frame.columns:
            raise FileError(f"column {name}_flag is there already; give the raw table")
    axis = make_axis(times, known, zoned=zoned)
    gridded = {name: _on_axis(axis, numbers) for name, (numbers, _) in channels.items()}
    reports: dict[str, ChannelReport] = {}
    cleaned: dict[str, pl.Series] = {}
    flagged: dict[str, pl.Series] = {}
    for name, (numbers, strange) in channels.items():
        spec = _spec(name, gridded[name], axis, kind if kinds is None else kinds[name], capacity_kw)
        donors = [values for other, values in gridded.items() if other != name][:16]
        result = cleanse(gridded[name], spec, donors)
        cleaned[name], codes = _back_on_rows(axis, numbers, strange, result.values, result.codes)
        flagged[f"{name}_flag"] = flag_names(codes).alias(f"{name}_flag")
        counts = Counter(flagged[f"{name}_flag"][core or slice(None)].drop_nulls().to_list())
        usable = numbers.is_not_null().to_numpy() & (codes == 0)
        told = usable[core] if core is not None else usable
        if core is not None:
            usable = np.where(np.isin(np.arange(usable.size), np.arange(usable.size)[core]), usable, False)
        days = _days(axis, usable, spec)
        reports[name] = ChannelReport(
            spec.kind,
            dict(counts.most_common()),
            float(told.mean()) if told.size else 0.0,
            most_observable(days.days, days.shares) if core is None else None,
            days,
        )
    changed = [
        series
        for name, series in cleaned.items()
        if reports[name].counts or (table.decimal_comma and frame[name].dtype == pl.String)
    ]  # a channel without findings stays as it was written, integers included
    out = frame.with_columns(*changed).with_columns(*flagged.values())
    return out, TableReport(frame.height, axis.step_minutes, reports)


def _on_axis(axis: Axis, numbers: pl.Series) -> Values:
    """Values by slot: of several for one slot the first that is there."""
    values = np.full(axis.size, np.nan)
    used = (axis.place >= 0) & ~axis.double
    values[axis.place[used]] = numbers.fill_null(np.nan).to_numpy()[used]
    return values


def _back_on_rows(
    axis: Axis, numbers: pl.Series, strange: pl.Series, values: Values, codes: NDArray[np.uint8]
) -> tuple[pl.Series, NDArray[np.uint8]]:
    """Clean values and flags of the rows; untouched values are those of the file to the last digit."""
    raw = numbers.fill_null(np.nan).to_numpy().astype(np.float64)
    used = axis.place >= 0
    row_codes = np.zeros(raw.size, dtype=np.uint8)
    row_values = raw.copy()
    row_codes[used] = codes[axis.place[used]]
    row_values[used] = np.where(row_codes[used] != 0, values[axis.place[used]], raw[used])
    odd = strange.to_numpy() & (row_codes != 0) & np.isfinite(row_values)
    row_codes[odd] = CODE[flags.NOT_A_NUMBER]
    row_codes[axis.double] = CODE[flags.DUPLICATE_TIME]
    row_values[axis.double] = values[axis.place[axis.double]]
    row_codes[axis.bad] = CODE[flags.BAD_TIME]
    lost = ~np.isfinite(row_values) & (row_codes == 0)
    row_codes[lost] = CODE[flags.MISSING]
    return pl.Series(numbers.name, row_values).fill_nan(None), row_codes


def _spec(name: str, values: Values, axis: Axis, kind: SeriesKind | None, capacity_kw: float | None) -> SeriesSpec:
    known = values[np.isfinite(values)]
    binary = known.size > 0 and bool(np.isin(known, (0.0, 1.0)).all())
    named = kind_by_name(name)
    kind = named if named in ("weather", "state") else kind or infer_kind(name, values, axis)
    if binary:
        kind = "state"
    if kind in ("load", "meter") and is_counter(values):
        kind = "counter"
    minimum = maximum = None
    if capacity_kw is not None and kind in ("load", "meter", "pv", "wind"):
        capacity = capacity_kw * _unit(known, capacity_kw)
        both_ways = kind == "meter" and known.size > 0 and float((known < 0).mean()) > 0.01
        low = {"pv": -0.05, "wind": -0.05}.get(kind, -1.1 if both_ways else 0.0)
        minimum, maximum = low * capacity, 1.1 * capacity
    return SeriesSpec(kind, minimum, maximum, axis.step_minutes, axis.first_slot)


def _unit(known: Values, capacity_kw: float) -> float:
    """1 for a channel in kW; 1000 or 0.001 when nearly all of it would be out of proportion else (W, MW)."""
    size = float(np.median(np.abs(known[known != 0]))) if (known != 0).any() else capacity_kw
    if size > 10 * capacity_kw:
        return 1000.0
    return 0.001 if robust_size(known) < 0.0015 * capacity_kw else 1.0


def _days(axis: Axis, usable: NDArray[np.bool_], spec: SeriesSpec) -> DayShares:
    if axis.size == 0:
        return DayShares([], np.zeros(0))
    slots = np.zeros(axis.size)
    rows = (axis.place >= 0) & ~axis.double
    slots[axis.place[rows]] = usable[rows]
    matrix = by_day(slots, spec.steps_per_day, spec.first_slot)
    share = np.nan_to_num(matrix).sum(axis=1) / spec.steps_per_day
    first = datetime.fromtimestamp(axis.start_us // DAY_US * 86_400, UTC).date()
    return DayShares([first + timedelta(days=i) for i in range(share.size)], share)

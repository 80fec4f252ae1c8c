"""When forecasts are issued and for which times: the rows of training, backtest and serving."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.features import Rows
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Minutes


def issue_rows(issue: int, horizon_hours: int, step: int) -> Rows:
    """Every interval from the one that starts at or after `issue` to the end of the horizon."""
    first = -(-issue // step) * step
    valid = np.arange(first, first + horizon_hours * 60, step, dtype=np.int64)
    return Rows(np.full(valid.shape, issue, dtype=np.int64), valid)


def rotating_rows(start: int, end: int, horizon_hours: int, step: int, spacing_minutes: int = 1740) -> Rows:
    """Issues 29 h apart, so that each hour of the day issues and each lead meets each hour.

    Parameters
    ----------
    start, end : int
        First issue, and end of the last valid interval [min since epoch].
    horizon_hours : int
        Lead of the last row of each issue [h].
    step : int
        Step of the valid times [min].
    spacing_minutes : int
        Distance of issues [min].
    """
    first = -(-start // 60) * 60
    parts = [issue_rows(issue, horizon_hours, step) for issue in range(first, end, spacing_minutes)]
    if not parts:
        return Rows(np.empty(0, np.int64), np.empty(0, np.int64))
    issue = np.concatenate([part.issue for part in parts])
    valid = np.concatenate([part.valid for part in parts])
    keep = valid + step <= end
    return Rows(issue[keep], valid[keep])


def gate_minute(gate: str) -> int:
    """Minute of the local day of a gate such as ``10:00``."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", gate.strip())
    if match is None:
        raise ValueError(f"gate {gate!r} is not a time of day such as 10:00 (00:00 to 23:59)")
    return int(match.group(1)) * 60 + int(match.group(2))


def hours_of(text: str) -> float:
    """Hours of a duration such as ``24h``, ``30min``, ``2d`` or a plain number of hours."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|hours?|min|minutes?|m|d|days?)?", text.strip().lower())
    if match is None:
        raise ValueError(f"duration {text!r} is not like 24h, 30min or 2d")
    value, unit = float(match.group(1)), match.group(2) or "h"
    return value / 60 if unit.startswith("m") else value * 24 if unit.startswith("d") else value


def gate_rows(start: int, end: int, *, gate: int, horizon_hours: float, step: int, zone: str) -> Rows:
    """One issue a day at the gate; the forecast starts at the next local midnight.

    Parameters
    ----------
    start, end : int
        Valid times lie in [start, end) [min since epoch].
    gate : int
        Minute of the local day. A gate of 0 issues at the midnight the forecast starts with.
    horizon_hours : float
        Length of the forecast from midnight [h].
    step : int
        Step of the valid times [min].
    zone : str
        IANA name of local time.
    """
    back = 1 if gate > 0 else 0
    first = (start + int(local_offset(np.array([start], dtype=np.int64), zone)[0])) // DAY
    last = (end + int(local_offset(np.array([end], dtype=np.int64), zone)[0])) // DAY
    days = np.arange(first, last + 1, dtype=np.int64)
    length = int(horizon_hours * 60)

    def utc(local: Minutes) -> Minutes:
        guess = local - local_offset(local, zone)
        return local - local_offset(guess, zone)

    issues, begins, next_begins = utc((days - back) * DAY + gate), utc(days * DAY), utc((days + 1) * DAY)
    parts: list[Rows] = []
    for issue, begin, following in zip(issues, begins, next_begins, strict=True):
        # a local day has 23, 24 or 25 hours; a horizon of whole days follows it
        stop = int(following) if length == DAY else int(begin) + length
        valid = np.arange(-(-int(begin) // step) * step, stop, step, dtype=np.int64)
        valid = valid[(valid >= start) & (valid + step <= end)]
        parts.append(Rows(np.full(valid.shape, issue, dtype=np.int64), valid))
    return Rows(np.concatenate([p.issue for p in parts]), np.concatenate([p.valid for p in parts]))

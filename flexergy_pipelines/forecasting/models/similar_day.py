"""Similar day: the mean of the few past days whose weather, season and day type come closest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.calendars import day_types
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset, wall_lag

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs, Rows
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

LOOK_BACK_DAYS = 420


class SimilarDay:
    """Analogue forecast; needs no training, so it stands in when no model can.

    Parameters
    ----------
    neighbours : int
        Number of past days averaged, nearest weighted most.
    """

    name = "similar_day"

    def __init__(self, neighbours: int = 4) -> None:
        self.neighbours = neighbours

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        """Nothing to learn."""

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        return self.forecast(table.rows, inputs)

    def forecast(self, rows: Rows, inputs: Inputs) -> Floats:
        """Mean of the nearest days at the same clock time, for each row."""
        zone = inputs.target.time_zone
        out = np.full(len(rows), np.nan)
        if inputs.series.values.size == 0 or len(rows) == 0:
            return out
        local_day = (rows.valid + local_offset(rows.valid, zone)) // DAY
        keys = np.stack([rows.issue, local_day], axis=1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        daily = _DailyWeather(inputs, int(rows.issue.min()))
        for k, (issue, day) in enumerate(unique):
            chosen = np.flatnonzero(inverse.reshape(-1) == k)
            out[chosen] = self._one_day(rows.take(chosen), int(issue), int(day), inputs, daily)
        return out

    def _one_day(self, rows: Rows, issue: int, day: int, inputs: Inputs, daily: _DailyWeather) -> Floats:
        target = inputs.target
        known = int(inputs.past.known_end(np.array([issue], dtype=np.int64))[0])
        last = (known + int(local_offset(np.array([known], dtype=np.int64), target.time_zone)[0])) // DAY - 1
        first = max(last - LOOK_BACK_DAYS, inputs.series.start // DAY)
        if last < first:
            return np.full(len(rows), np.nan)
        candidates = np.arange(first, last + 1, dtype=np.int64)
        distance = self._distance(candidates, day, issue, inputs, daily)
        order = candidates[np.argsort(distance, kind="stable")]
        total, weight = np.zeros(len(rows)), np.zeros(len(rows))
        taken, whole = 0, 0
        found: list[tuple[Floats, np.ndarray]] = []
        for candidate in order[:30]:
            past = wall_lag(rows.valid, day - int(candidate), target.time_zone)
            value = inputs.past.at(past, rows.issue)
            found.append((value, np.isfinite(value)))
            whole += bool(found[-1][1].all())
            if whole == self.neighbours:
                break
        fullest = max(float(good.mean()) for _, good in found)
        for value, good in found:
            # an inverter that sends nothing at night has no whole day
            if fullest == 0 or good.mean() < 0.7 * fullest:
                continue
            share = 1.0 / (1.0 + taken)
            total[good] += share * value[good]
            weight[good] += share
            taken += 1
            if taken == self.neighbours:
                break
        with np.errstate(invalid="ignore"):
            return np.where(weight > 0, total / np.maximum(weight, 1e-9), np.nan)

    @staticmethod
    def _distance(candidates: Minutes, day: int, issue: int, inputs: Inputs, daily: _DailyWeather) -> Floats:
        target = inputs.target
        age = (day - candidates).astype(np.float64)
        season = np.abs((age + 182.6) % 365.25 - 182.6)
        distance = 0.02 * season + 0.002 * age
        if target.kind not in ("pv", "wind"):
            wanted = day_types(np.array([day], dtype=np.int64), target.country)[0]
            distance = distance + 3.0 * (day_types(candidates, target.country) != wanted) + 0.3 * (age % 7 != 0)
        here = daily.of(np.array([day], dtype=np.int64), issue)
        there = daily.of(candidates, issue)
        if here.size:
            gap = np.abs(there - here) / daily.scale
            known = np.isfinite(gap)
            count = known.sum(axis=1)
            mean_gap = np.where(known, gap, 0.0).sum(axis=1) / np.maximum(count, 1)
            distance = distance + 4.0 * np.where(count > 0, mean_gap, 1.0)
        return distance


class _DailyWeather:
    """Mean of each plain weather column over six-hour parts of a local day."""

    def __init__(self, inputs: Inputs, first_issue: int) -> None:
        self.inputs = inputs
        panel = inputs.weather
        self.plain = [i for i, c in enumerate(panel.columns) if "|" not in c and not c.startswith(("sin(", "cos("))][:8]
        # the yardstick must not know later weather than the first forecast of the batch
        seen = panel.known_at(first_issue).values[:, self.plain] if self.plain else np.empty((0, 0))
        scale = np.array(
            [np.std(column[np.isfinite(column)]) if np.isfinite(column).any() else 1.0 for column in seen.T]
        )
        self.scale = np.repeat(np.where(scale > 1e-9, scale, 1.0), 4)
        self._kept: dict[tuple[int, int], Floats] = {}

    def of(self, days: Minutes, issue: int) -> Floats:
        """Shape (days, 4 x columns); known weather of past days does not depend on the later issue."""
        if not self.plain:
            return np.empty((days.size, 0))
        bucket = issue // DAY
        missing = np.array([d for d in days if (int(d), self._key(int(d), bucket, issue)) not in self._kept], np.int64)
        if missing.size:
            zone = self.inputs.target.time_zone
            hours = np.arange(24, dtype=np.int64) * 60
            local = missing[:, None] * DAY + hours[None, :]
            utc = local - local_offset(local, zone)
            values = self.inputs.weather.lookup(utc.reshape(-1), np.full(utc.size, issue, dtype=np.int64))
            parts = values[:, self.plain].reshape(missing.size, 4, 6, len(self.plain))
            good = np.isfinite(parts)
            count = good.sum(axis=2)
            mean = np.where(count > 0, np.where(good, parts, 0.0).sum(axis=2) / np.maximum(count, 1), np.nan)
            flat = mean.transpose(0, 2, 1).reshape(missing.size, -1)
            for d, row in zip(missing, flat, strict=True):
                self._kept[(int(d), self._key(int(d), bucket, issue))] = row
        return np.stack([self._kept[(int(d), self._key(int(d), bucket, issue))] for d in days])

    @staticmethod
    def _key(day: int, bucket: int, issue: int) -> int:
        return 0 if day < bucket - 1 else issue

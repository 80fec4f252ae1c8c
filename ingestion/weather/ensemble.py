"""Several forecasts as one: the mean of what the members say, which errs less than each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ingestion.weather.model import COLUMNS, WeatherError, WeatherForecast, WeatherProvider, WeatherRequest
from ingestion.weather.timestep import change_step, fill_gaps


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean of several providers.

    Attributes
    ----------
    members : sequence of WeatherProvider
        Asked one after the other; those that fail are left out.
    least : int
        Fewest members whose mean is still taken.
    name : str
        Stored with each forecast.
    """

    members: Sequence[WeatherProvider]
    least: int = 1
    name: str = "ensemble"

    def forecast(self, request: WeatherRequest, now: datetime) -> WeatherForecast:
        """Ask all members and average what came.

        Raises
        ------
        WeatherError
            When fewer than `least` members answered; with what each said.
        """
        answers: list[WeatherForecast] = []
        failures: list[str] = []
        for member in self.members:
            try:
                answers.append(member.forecast(request, now))
            except WeatherError as error:
                failures.append(str(error))
        if len(answers) < self.least:
            raise WeatherError(f"{self.name}: {len(answers)} of {len(self.members)} members: {'; '.join(failures)}")
        step = max(answer.step for answer in answers)
        place = (request.latitude_deg, request.longitude_deg)
        frames: list[pl.DataFrame] = []
        for answer in answers:
            full, _ = fill_gaps(answer.frame, answer.step, *place)
            frames.append(change_step(full, answer.step, step, *place).select("time", *COLUMNS))
        # polars leaves nulls out of a mean: a gap of one member is filled by the others.
        mean = pl.concat(frames).group_by("time").agg(pl.col(list(COLUMNS)).mean()).sort("time")
        return WeatherForecast(self.name, now, step, mean)

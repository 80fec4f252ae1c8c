"""What of a site is forecast, how, when it is learnt anew, and when its quality is an alarm."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from flexergy_pipelines.grid.base import Fraction, Many, Model, NonNegative, Positive

Minutes = Literal[5, 10, 15, 20, 30, 60]
WeatherInput = Literal[
    "shortwave_radiation_w_m2", "temperature_2m_c", "wind_speed_10m_ms", "wind_speed_100m_ms", "cloud_cover_pct"
]
MARKET = "market"


class ExcludedPeriod(Model):
    """Time whose measurements are no lesson for the models, such as a strike, a rebuild or a test."""

    start: datetime = Field(strict=False)
    end: datetime = Field(strict=False)
    reason: str = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _in_order(self) -> ExcludedPeriod:
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment.tzinfo is None:
                raise ValueError(f"{name} {moment.isoformat()} has no offset; give for example 2026-03-01T00:00:00Z")
        if self.end <= self.start:
            raise ValueError(f"end {self.end.isoformat()} is not after start {self.start.isoformat()}")
        return self


class ForecastTarget(Model):
    """How one asset is forecast where it differs from the rest of the site; what is left out is the site's.

    Attributes
    ----------
    asset : str
        An asset's id, or ``market`` for the day-ahead price.
    period_minutes : int or None
        Time between two forecasts [min].
    training_window_days : int or None
        History that models learn from [d].
    weather_inputs : tuple of str or None
        Weather columns the models may use; an empty list means none.
    ev_usage : str
        Who charges at an EV charging manager's points: decides which statistics stand in for missing sessions.
    ev_sessions_per_day : float
        Sessions of one charge point on a working day, assumed while there is little history [1/d].
    exclude_curtailed, exclude_estimated : bool
        Whether intervals with a binding limit, and values that cleansing had to estimate, are kept from training.
    """

    asset: str = Field(min_length=1)
    granularity_minutes: Minutes | None = None
    horizon_hours: int | None = Field(default=None, ge=2, le=48)
    period_minutes: int | None = Field(default=None, ge=5, le=1440)
    training_period_days: int | None = Field(default=None, ge=1, le=366)
    training_window_days: int | None = Field(default=None, ge=21, le=3660)
    weather_inputs: tuple[WeatherInput, ...] | None = Field(default=None, strict=False)
    ev_usage: Literal["private", "public", "workplace"] = "public"
    ev_sessions_per_day: Positive = 1.0
    exclude_curtailed: bool = True
    exclude_estimated: bool = True
    excluded_periods: Many[ExcludedPeriod] = ()

    @model_validator(mode="after")
    def _price_is_hourly(self) -> ForecastTarget:
        if self.asset == MARKET and self.granularity_minutes not in (None, 60):
            raise ValueError(
                f"granularity_minutes {self.granularity_minutes} of {MARKET}: the price is forecast by the hour (60)"
            )
        return self


class ForecastMonitoring(Model):
    """When the quality of forecasts is an alarm, and when it asks for a new training.

    Attributes
    ----------
    window_days : int
        Days over which accuracy, bias and coverage are judged [d].
    accuracy_decay : float
        Alarm when the mean absolute error is this many times that of the backtest.
    bias_share : float
        Alarm when the mean error is this share of the mean absolute error: nearly all errors to one side.
    coverage_low, coverage_high : float
        Alarm when the share of measurements inside P10 to P90 leaves this range (0.8 is right).
    drift_psi : float
        Alarm when the population stability index of target or weather exceeds this.
    input_quality : float
        Alarm when less than this share of a day's values was measured and found good.
    retrain : bool
        Train a target anew when its accuracy has decayed or its data have drifted.
    retrain_pause_days : int
        Shortest time between two such trainings of one target [d].
    """

    window_days: int = Field(default=7, ge=1, le=60)
    accuracy_decay: float = Field(default=1.5, ge=1.0, le=10.0)
    bias_share: Fraction = 0.8
    coverage_low: Fraction = 0.6
    coverage_high: Fraction = 0.95
    drift_psi: Positive = 0.5
    input_quality: Fraction = 0.8
    retrain: bool = True
    retrain_pause_days: int = Field(default=2, ge=1, le=60)

    @model_validator(mode="after")
    def _range(self) -> ForecastMonitoring:
        if self.coverage_low >= self.coverage_high:
            raise ValueError(f"coverage_low {self.coverage_low:g} is not below coverage_high {self.coverage_high:g}")
        return self


class ForecastSettings(Model):
    """Forecast and weather periods, granularities and horizons.

    Attributes
    ----------
    excluded_assets : tuple of str
        Assets that are not to be forecast.
    training_window_days : int
        History that models learn from [d].
    tuning_budget_s : float
        Time a cyclic training may search for better model parameters, for each target [s]; 0 searches never.
    targets : tuple of ForecastTarget
        Assets whose forecasts differ from the site's settings.
    """

    granularity_minutes: Minutes = 15
    horizon_hours: int = Field(default=48, ge=2, le=48)
    period_minutes: int = Field(default=60, ge=5, le=1440)
    weather_period_minutes: int = Field(default=60, ge=5, le=1440)
    weather_granularity_minutes: Minutes = 60
    weather_horizon_hours: int = Field(default=48, ge=2, le=48)
    training_period_days: int = Field(default=7, ge=1, le=366)
    training_window_days: int = Field(default=400, ge=21, le=3660)
    tuning_budget_s: NonNegative = 0.0
    excluded_assets: tuple[str, ...] = Field(default=(), strict=False)
    targets: Many[ForecastTarget] = ()
    monitoring: ForecastMonitoring = ForecastMonitoring()

    @field_validator("targets")
    @classmethod
    def _named_once(cls, targets: tuple[ForecastTarget, ...]) -> tuple[ForecastTarget, ...]:
        names = [target.asset for target in targets]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"{double} is given twice")
        return targets

    def of(self, asset_id: str) -> ForecastTarget:
        """Settings of one asset with nothing left open."""
        own = next((target for target in self.targets if target.asset == asset_id), ForecastTarget(asset=asset_id))
        usual = {
            "granularity_minutes": 60 if asset_id == MARKET else self.granularity_minutes,
            "horizon_hours": self.horizon_hours,
            "period_minutes": self.period_minutes,
            "training_period_days": self.training_period_days,
            "training_window_days": self.training_window_days,
        }
        return own.model_copy(update={name: value for name, value in usual.items() if getattr(own, name) is None})

    def problems(self, assets: dict[str, str]) -> list[str]:
        """What in these settings does not fit the site's assets (kind by id), one line each."""
        found = [
            f"forecasts.excluded_assets: asset {name} is unknown"
            for name in self.excluded_assets
            if name not in assets and name != MARKET
        ]
        known = {name for name, kind in assets.items() if kind in FORECAST_KINDS} | {MARKET}
        for i, target in enumerate(self.targets):
            where = f"forecasts.targets[{i}]"
            if target.asset not in known:
                found.append(f"{where}: asset {target.asset} is not forecast; allowed: {', '.join(sorted(known))}")
            elif target.asset in self.excluded_assets:
                found.append(f"{where}: asset {target.asset} is also in forecasts.excluded_assets")
        return found


FORECAST_KINDS = frozenset({"pv", "wind", "load", "controllable_load", "ev"})

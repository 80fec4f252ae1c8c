"""Bodies of requests and answers; every number says its unit in its name or beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

_strict = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_answer = ConfigDict(frozen=True)


class Login(BaseModel):
    """Who wants in."""

    model_config = _strict
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["admin"])]
    password: Annotated[str, Field(min_length=1, max_length=1000, examples=["correct horse battery staple"])]


class Session(BaseModel):
    """An open session; send the token as ``Authorization: Bearer <token>``."""

    model_config = _answer
    token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of the scheme
    user: str
    role: str


class Health(BaseModel):
    """Whether the service and its store work, and how old the newest work of the other services is."""

    model_config = _answer
    status: Literal["ok", "degraded"]
    store: Literal["reachable", "unreachable"]
    live_age_s: Annotated[
        float | None, Field(description="since the control loop last wrote a value of any site; null: never")
    ] = None
    plan_age_s: Annotated[float | None, Field(description="since the newest plan of any site; null: none yet")] = None
    time: datetime
    version: str


class SiteSummary(BaseModel):
    """One site in the list."""

    model_config = _answer
    id: Annotated[str, Field(examples=["microgrid"])]
    name: str
    kind: str
    time_zone: Annotated[str, Field(examples=["Europe/Amsterdam"])]
    assets: int


class SiteList(BaseModel):
    """The sites of the caller's subsystem."""

    model_config = _answer
    sites: list[SiteSummary]


class PointModel(BaseModel):
    """Something that is measured or commanded."""

    model_config = _answer
    asset_id: str
    quantity: str
    unit: str
    writable: bool
    minimum: float | None
    maximum: float | None


class AssetModel(BaseModel):
    """One asset of a site."""

    model_config = _answer
    id: str
    kind: str


class SiteDetail(SiteSummary):
    """One site with its assets and points."""

    import_limit_kw: float
    export_limit_kw: float
    asset_list: list[AssetModel]
    points: list[PointModel]


class Value(BaseModel):
    """A value at a time; null means not measured, which is never zero."""

    model_config = _answer
    asset_id: Annotated[str, Field(examples=["ess-1"])]
    quantity: Annotated[str, Field(examples=["soc"])]
    time: Annotated[datetime, Field(description="start of the interval, UTC")]
    value: float | None
    unit: str
    quality: Annotated[int, Field(description="0 good, 1 suspect, 2 bad, 3 missing, 4 estimated")]


class Page(BaseModel):
    """Which part of the rows this answer holds."""

    model_config = _answer
    offset: int
    limit: int
    total: int
    next: Annotated[str | None, Field(description="address of the following part; null at the end")]


class Readings(BaseModel):
    """Values of a period."""

    model_config = _answer
    site: str
    start: datetime
    end: datetime
    step: Annotated[str | None, Field(description="averaging interval; null means as recorded")]
    page: Page
    values: list[Value]


class LiveValue(Value):
    """A present value."""

    age_s: Annotated[float, Field(description="seconds since it was measured")]


class SetpointModel(BaseModel):
    """The newest setpoint of one actuator."""

    model_config = _answer
    asset_id: str
    quantity: str
    time: datetime
    requested: float | None
    sent: float | None
    readback: float | None
    layer: str | None
    reason: str | None
    valid_until: datetime | None
    status: str | None


class Live(BaseModel):
    """What a site does now."""

    model_config = _answer
    site: str
    time: datetime
    stale: Annotated[bool, Field(description="true when the newest value is older than 10 s, or there is none")]
    values: list[LiveValue]
    setpoints: list[SetpointModel]


class ForecastValue(BaseModel):
    """A forecast for one interval."""

    model_config = _answer
    time: datetime
    value: float | None
    quantiles: Annotated[dict[str, float | None], Field(examples=[{"p10": 1.2, "p50": 3.4, "p90": 5.0}])]
    issued_at: datetime
    model: str
    fallback_level: Annotated[int, Field(description="0: champion model; higher: simpler fallback")]


class ForecastSeries(BaseModel):
    """The forecast of one target."""

    model_config = _answer
    asset_id: str
    quantity: str
    unit: str
    values: list[ForecastValue]


class Forecasts(BaseModel):
    """Forecasts of a site."""

    model_config = _answer
    site: str
    start: datetime
    end: datetime
    known_at: datetime | None
    series: list[ForecastSeries]


class PlanHead(BaseModel):
    """What is known of a plan besides its values."""

    model_config = _answer
    plan_id: int
    version: int
    kind: str
    created_at: datetime
    start: datetime
    end: datetime
    step_minutes: float
    status: Annotated[str, Field(description="of the solution, as the solver proved it")]
    gap: float | None
    objective_eur: float | None
    bound_eur: float | None
    no_storage_cost_eur: float | None
    costs_eur: dict[str, Any]
    violations: list[dict[str, Any]]


class PlanValue(BaseModel):
    """One planned value."""

    model_config = _answer
    asset_id: str
    quantity: str
    time: datetime
    value: float | None


class Plan(PlanHead):
    """A plan with its values."""

    site: str
    values: list[PlanValue]


class PlanHistory(BaseModel):
    """The newest plans of a site, newest first."""

    model_config = _answer
    site: str
    plans: list[PlanHead]


class Kpi(BaseModel):
    """One indicator of one period."""

    model_config = _answer
    period_kind: str
    period_start: datetime
    scope: str
    kpi: str
    value: float | None
    unit: str
    coverage: Annotated[float | None, Field(description="share of the period with good data, 0..1")]
    reference: Annotated[str | None, Field(description="what the value is compared with, in words")]


class Kpis(BaseModel):
    """Indicators of a site."""

    model_config = _answer
    site: str
    start: datetime
    end: datetime
    kpis: list[Kpi]


class AlarmModel(BaseModel):
    """An alarm."""

    model_config = _answer
    id: int
    code: str
    severity: Annotated[int, Field(description="1 critical, 2 major, 3 minor, 4 notice")]
    message: str
    asset_id: str | None
    active: bool
    count: int
    raised_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class Alarms(BaseModel):
    """Alarms of a site."""

    model_config = _answer
    site: str
    alarms: list[AlarmModel]


class Command(BaseModel):
    """An operator's command for one actuator."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "asset_id": "ess-1",
                    "quantity": "active_power_setpoint_kw",
                    "value": 25.0,
                    "reason": "test of the converter",
                    "valid_until": "2026-06-01T12:00:00Z",
                },
                {
                    "asset_id": None,
                    "quantity": "emergency_stop",
                    "value": 1.0,
                    "reason": "smoke at the container",
                    "valid_until": None,
                },
            ]
        },
    )
    asset_id: Annotated[str | None, Field(strict=True, max_length=100, description="null only for emergency_stop")] = (
        None
    )
    quantity: Annotated[str, Field(strict=True, min_length=1, max_length=100)]
    value: Annotated[
        float, Field(strict=True, description="in the unit of the quantity; a number, never true or false")
    ]
    reason: Annotated[str, Field(strict=True, min_length=3, max_length=500)]
    valid_until: Annotated[
        AwareDatetime | None,
        Field(description="when the command lapses, with a UTC offset; null only for emergency_stop"),
    ] = None


class CommandModel(BaseModel):
    """A command and what became of it."""

    model_config = _answer
    id: int
    asset_id: str | None
    quantity: str
    value: float | None = Field(description="null hands the actuator back to the plan")
    reason: str
    user: str
    created_at: datetime
    valid_until: datetime | None
    status: str = Field(description="open, in_force, done, superseded, refused or expired")
    message: str
    closed_at: datetime | None


class Commands(BaseModel):
    """Commands of a site, newest first."""

    model_config = _answer
    site: str
    commands: list[CommandModel]


class CommandReceipt(BaseModel):
    """The command is stored; the control loop reports its outcome."""

    model_config = _answer
    id: int
    status: str

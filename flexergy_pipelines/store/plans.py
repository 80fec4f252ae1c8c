"""Plans: what was decided for each asset and step, at which cost, how good it is and from which inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, utc
from flexergy_pipelines.store.notify import PLAN, notify
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from sqlalchemy import Row

    from flexergy_pipelines.store.engine import TenantStore

KINDS: Final = ("day_ahead", "intraday")
_COLUMNS: Final = {
    "asset_id": Column("text"),
    "quantity": Column("text"),
    "time": Column("time"),
    "value": Column("number", nullable=True),
}
_VALUES: Final = {"asset_id": pl.String, "quantity": pl.String, "time": TIME, "value": pl.Float64}
_SELECT: Final = (
    "SELECT plan_id, version, site_id, kind, created_at, period_start, period_end, step_minutes, status, gap, "
    "objective_eur, bound_eur, no_storage_cost_eur, costs, violations, timings, inputs FROM plans "
)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan without its values.

    Attributes
    ----------
    site_id, kind : str
        Site; "day_ahead" or "intraday".
    created_at, start, end : datetime
        When it was made; the period it covers.
    step_minutes : int
        Length of its steps.
    status : str
        What the solver said of the solution ("optimal", "feasible", ...).
    gap : float or None
        Relative distance to the bound.
    objective_eur, bound_eur, no_storage_cost_eur : float or None
        Cost of the plan, the best that is possible, and the cost with the storage idle [EUR].
    costs : dict
        Cost by part [EUR].
    violations : list of dict
        Limits the plan could not keep, and by how much.
    timings, inputs : dict
        Seconds by part; what it was made from.
    """

    site_id: str
    kind: str
    created_at: datetime
    start: datetime
    end: datetime
    step_minutes: int
    status: str
    gap: float | None = None
    objective_eur: float | None = None
    bound_eur: float | None = None
    no_storage_cost_eur: float | None = None
    costs: dict[str, Any] = field(default_factory=dict)
    violations: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan's record with its number and its version (counted for each site)."""

    plan_id: int
    version: int
    record: PlanRecord


@dataclass(frozen=True, slots=True)
class ActivePlan:
    """The plan in force: record, number, version, and values (asset_id, quantity, time, value)."""

    record: PlanRecord
    plan_id: int
    version: int
    values: pl.DataFrame


def write_plan(db: TenantStore, record: PlanRecord, values: pl.DataFrame) -> int:
    """Store a plan as the site's next version and tell the services.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    record : PlanRecord
        What is known of the plan.
    values : pl.DataFrame
        asset_id, quantity, time, value (unit in the quantity's name).

    Returns
    -------
    int
        Number of the plan.
    """
    what = f"plan of {record.site_id}"
    start, end = utc(record.start, "start"), utc(record.end, "end")
    if record.kind not in KINDS:
        raise InvalidDataError(f"{what}: kind '{record.kind}' is not one of {', '.join(KINDS)}")
    if start >= end:
        raise InvalidDataError(f"{what}: start {start.isoformat()} is not before end {end.isoformat()}")
    if record.step_minutes <= 0:
        raise InvalidDataError(f"{what}: step_minutes {record.step_minutes} is not positive")
    rows = conform(values, _COLUMNS, what)
    outside = rows.filter((pl.col("time") < start) | (pl.col("time") >= end))
    if outside.height:
        raise InvalidDataError(f"{what}: a value at {outside['time'][0]} lies outside {start} to {end}")
    with db.begin() as connection:
        require_site(connection, record.site_id)
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtext(current_setting('app.tenant') || ':' || %s))",
            (f"plans:{record.site_id}",),
        )
        plan_id: int = connection.exec_driver_sql(
            "INSERT INTO plans (site_id, version, kind, created_at, period_start, period_end, step_minutes, status, "
            "gap, objective_eur, bound_eur, no_storage_cost_eur, costs, violations, timings, inputs) "
            "SELECT %(site)s, coalesce(max(version), 0) + 1, %(kind)s, %(created)s, %(start)s, %(end)s, %(step)s, "
            "%(status)s, %(gap)s::float8, %(objective)s::float8, %(bound)s::float8, %(idle)s::float8, "
            "%(costs)s::jsonb, %(violations)s::jsonb, %(timings)s::jsonb, %(inputs)s::jsonb "
            "FROM plans WHERE site_id = %(site)s RETURNING plan_id",
            {
                "site": record.site_id,
                "kind": record.kind,
                "created": utc(record.created_at, "created_at"),
                "start": start,
                "end": end,
                "step": record.step_minutes,
                "status": record.status,
                "gap": record.gap,
                "objective": record.objective_eur,
                "bound": record.bound_eur,
                "idle": record.no_storage_cost_eur,
                "costs": _json(record.costs, what),
                "violations": _json(record.violations, what),
                "timings": _json(record.timings, what),
                "inputs": _json(record.inputs, what),
            },
        ).scalar_one()
        staged_insert(connection, "plan_values", rows.select(pl.lit(plan_id).alias("plan_id"), pl.all()))
        notify(connection, PLAN, db, record.site_id)
    return plan_id


def _json(value: object, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except ValueError as error:
        raise InvalidDataError(f"{what}: {value!r} holds a number that is not finite") from error


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise InvalidDataError(f"{value!r} ({type(value).__name__}) cannot be stored with a plan")


def find_active_plan(db: TenantStore, site_id: str, at: datetime) -> StoredPlan | None:
    """The record of the newest plan that covers the instant `at`, without its values; None when there is none."""
    with db.begin() as connection:
        require_site(connection, site_id)
        row = connection.exec_driver_sql(
            _SELECT + "WHERE site_id = %(site)s AND period_start <= %(at)s AND period_end > %(at)s "
            "ORDER BY version DESC LIMIT 1",
            {"site": site_id, "at": utc(at, "at")},
        ).one_or_none()
    return None if row is None else _stored(row)


def read_active_plan(db: TenantStore, site_id: str, at: datetime) -> ActivePlan | None:
    """The newest plan that covers the instant `at`; None when there is none."""
    stored = find_active_plan(db, site_id, at)
    if stored is None:
        return None
    return ActivePlan(stored.record, stored.plan_id, stored.version, read_plan_values(db, stored.plan_id))


def list_plans(db: TenantStore, site_id: str, limit: int = 50) -> list[StoredPlan]:
    """The newest plans of a site, newest first."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            _SELECT + "WHERE site_id = %s ORDER BY version DESC LIMIT %s", (site_id, limit)
        ).all()
    return [_stored(row) for row in rows]


def read_plan(db: TenantStore, plan_id: int) -> StoredPlan:
    """One plan's record.

    Raises
    ------
    NotFoundError
        The tenant has no such plan.
    """
    with db.begin() as connection:
        row = connection.exec_driver_sql(_SELECT + "WHERE plan_id = %s", (plan_id,)).one_or_none()
    if row is None:
        raise NotFoundError(f"plan {plan_id} does not exist")
    return _stored(row)


def read_plan_values(db: TenantStore, plan_id: int) -> pl.DataFrame:
    """Values of a plan: asset_id, quantity, time, value."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT asset_id, quantity, time, value FROM plan_values WHERE plan_id = %s ORDER BY 1, 2, 3", (plan_id,)
        ).all()
    return frame_of([tuple(row) for row in rows], _VALUES)


def _stored(row: Row) -> StoredPlan:
    plan_id, version, *rest = row
    return StoredPlan(plan_id, version, PlanRecord(*rest))

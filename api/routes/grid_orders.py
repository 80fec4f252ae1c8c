"""Orders of the grid operator: limits, setpoints, and P(f) curves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.auth import CallerDep, CommanderDep, site_of
from api.periods import EndQuery, StartQuery, period
from api.problems import field_problem
from flexergy_pipelines.operation.grid_orders import give_order, orders_between, withdraw_order
from flexergy_pipelines.store.frequency_curves import FrequencyCurve, write_frequency_curve

router = APIRouter(prefix="/sites/{site_id}", tags=["grid operator"])

_Power = Annotated[float | None, Field(strict=True)]


class GridOrderBody(BaseModel):
    """A limit (`minimum_kw`, `maximum_kw` or both) or a setpoint (`setpoint_kw`) for an asset, or for the exchange."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"asset_id": "pv-1", "maximum_kw": 60.0, "reason": "congestion", "ends_at": "2026-06-01T16:00:00Z"},
                {
                    "asset_id": "pcc",
                    "setpoint_kw": -40.0,
                    "ramp_kw_per_s": 2.0,
                    "ends_at": "2026-06-01T14:00:00Z",
                    "source": "TSO",
                    "reason": "redispatch",
                },
            ]
        },
    )
    asset_id: Annotated[str, Field(strict=True, max_length=100, description="`pcc` is the exchange, import positive")]
    minimum_kw: _Power = None
    maximum_kw: _Power = None
    setpoint_kw: _Power = None
    ramp_kw_per_s: Annotated[
        float | None, Field(strict=True, description="how fast a setpoint is approached; null: as fast as the site may")
    ] = None
    starts_at: Annotated[AwareDatetime | None, Field(description="null: now")] = None
    ends_at: Annotated[AwareDatetime | None, Field(description="null only for a limit: until it is withdrawn")] = None
    source: Annotated[str, Field(strict=True, min_length=3, max_length=100)] = "grid operator"
    reason: Annotated[str, Field(strict=True, min_length=3, max_length=500)]


class GridOrderModel(BaseModel):
    """An order as it stands."""

    model_config = ConfigDict(frozen=True)
    id: int
    asset_id: str
    minimum_kw: float | None
    maximum_kw: float | None
    setpoint_kw: float | None
    ramp_kw_per_s: float | None
    starts_at: datetime
    ends_at: datetime | None
    source: str
    reason: str
    created_by: str
    created_at: datetime


class GridOrders(BaseModel):
    """Orders that touch a period, in the order in which they were given."""

    model_config = ConfigDict(frozen=True)
    site: str
    start: datetime
    end: datetime
    orders: list[GridOrderModel]


class GridOrderReceipt(BaseModel):
    """The order is stored; the control loop obeys it from `starts_at` on."""

    model_config = ConfigDict(frozen=True)
    id: int


class FrequencyCurveBody(BaseModel):
    """A P(f) curve: power that a storage system owes beyond its schedule at each frequency."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [{"asset_id": "ess-1", "points": [[49.8, 50.0], [50.0, 0.0], [50.2, -50.0]], "source": "TSO"}]
        },
    )
    asset_id: Annotated[str, Field(strict=True, max_length=100)]
    points: Annotated[
        list[tuple[float, float]],
        Field(min_length=2, max_length=100, description="[Hz, kW] in rising frequency; positive into the site"),
    ]
    tolerance_kw: Annotated[float, Field(gt=0, description="deviation that still counts as delivered")] = 1.0
    valid_from: Annotated[AwareDatetime | None, Field(description="null: now")] = None
    valid_until: Annotated[AwareDatetime | None, Field(description="null: until the next curve")] = None
    source: Annotated[str, Field(strict=True, min_length=3, max_length=100)] = "grid operator"


@router.post("/grid-orders", summary="Give an order of the grid operator", status_code=201)
def give(site_id: str, body: GridOrderBody, who: CommanderDep) -> GridOrderReceipt:
    """Store a limit or a setpoint; operators and administrators only.

    It ranks above the plan, the modes and operators' commands. A setpoint is approached along its ramp and lapses at
    `ends_at`; of several for one asset the newest counts, of several limits the tightest.
    """
    site = site_of(who, site_id)
    now = datetime.now(UTC)
    if body.ends_at is not None and body.ends_at <= now:
        raise field_problem("ends_at", body.ends_at.isoformat(), "a time in the future")
    order_id = give_order(
        who.db,
        site.id,
        body.asset_id,
        starts_at=body.starts_at or now,
        ends_at=body.ends_at,
        minimum_kw=body.minimum_kw,
        maximum_kw=body.maximum_kw,
        setpoint_kw=body.setpoint_kw,
        ramp_kw_per_s=body.ramp_kw_per_s,
        source=body.source,
        reason=body.reason,
        user=who.name,
    )
    return GridOrderReceipt(id=order_id)


@router.get("/grid-orders", summary="Orders of the grid operator")
def orders(site_id: str, who: CallerDep, start: StartQuery = None, end: EndQuery = None) -> GridOrders:
    """Orders that are not withdrawn and touch the period. Default: the next 24 h."""
    site = site_of(who, site_id)
    day = timedelta(hours=24)
    first, last = period(start, end, now=datetime.now(UTC), default=day, longest_days=366, ahead=day)
    names = set(GridOrderModel.model_fields) - {"id"}
    found = [
        GridOrderModel(id=order.order_id, **{name: getattr(order, name) for name in names})
        for order in orders_between(who.db, site.id, first, last)
    ]
    return GridOrders(site=site.id, start=first, end=last, orders=found)


@router.delete("/grid-orders/{order_id}", summary="Withdraw an order of the grid operator", status_code=204)
def withdraw(site_id: str, order_id: Annotated[int, Path(ge=1, le=2**63 - 1)], who: CommanderDep) -> None:
    """End an order now; operators and administrators only."""
    withdraw_order(who.db, site_of(who, site_id).id, order_id, user=who.name)


@router.post("/frequency-curves", summary="Set a P(f) curve of the grid operator", status_code=201)
def set_curve(site_id: str, body: FrequencyCurveBody, who: CommanderDep) -> FrequencyCurveBody:
    """Store a curve, which wins over the one of the site's configuration; operators and administrators only."""
    site = site_of(who, site_id)
    storages = [asset.id for asset in site.assets() if asset.kind == "ess"]
    if body.asset_id not in storages:
        raise field_problem("asset_id", body.asset_id, f"a storage system: {', '.join(storages) or 'there is none'}")
    since = body.valid_from or datetime.now(UTC)
    points = tuple(body.points)
    curve = FrequencyCurve(body.asset_id, since, points, body.tolerance_kw, body.valid_until, body.source)
    write_frequency_curve(who.db, site.id, curve)
    return body.model_copy(update={"valid_from": since})

"""Measured values of a period, as JSON or CSV, and the present ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import polars as pl
from fastapi import APIRouter, Header, Query, Request, Response

from api.auth import CallerDep, site_of
from api.models import Live, LiveValue, Page, Readings, SetpointModel, Value
from api.periods import EndQuery, PointsQuery, StartQuery, StepQuery, period, points_of, step_of, units_of
from flexergy_pipelines.store.live import read_live
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.setpoints import latest_setpoints

router = APIRouter(prefix="/sites/{site_id}", tags=["measurements"])

MAX_ROWS = 50_000
STALE_AFTER_S = 10.0


@router.get(
    "/readings",
    summary="Measured values of a period",
    response_model=Readings,
    responses={200: {"content": {"text/csv": {"example": "asset_id,quantity,unit,time,value,quality\n"}}}},
)
def readings(
    site_id: str,
    who: CallerDep,
    request: Request,
    *,
    start: StartQuery = None,
    end: EndQuery = None,
    step: StepQuery = None,
    points: PointsQuery = None,
    form: Annotated[
        Literal["json", "csv"] | None, Query(alias="format", description="default by Accept, else json")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS, description="most rows in one JSON answer")] = 10_000,
    offset: Annotated[int, Query(ge=0, le=100_000_000, description="rows to skip")] = 0,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Readings | Response:
    """Rows by asset, quantity and time. A value stands for the interval that begins at its time; times are UTC.

    With `step`, a value is the mean of the good and estimated readings of its interval, and null where there were none:
    what was not measured is never zero. CSV answers hold the whole period.
    """
    site = site_of(who, site_id)
    first, last = period(start, end, now=datetime.now(UTC))
    wanted = step_of(step, first, last)
    chosen = points_of(site, points)
    units = units_of(site)
    frame = read_readings(who.db, site.id, first, last, chosen, wanted)
    if form == "csv" or (form is None and "text/csv" in accept):
        return _csv(frame, units, f"{site.id}-readings.csv")
    part = frame.slice(offset, limit)
    following = None
    if offset + limit < frame.height:
        address = request.url.include_query_params(
            start=first.isoformat(), end=last.isoformat(), offset=offset + limit, limit=limit
        )
        following = f"{address.path}?{address.query}"
    return Readings(
        site=site.id,
        start=first,
        end=last,
        step=wanted,
        page=Page(offset=offset, limit=limit, total=frame.height, next=following),
        values=[
            Value(**row, unit=units.get((row["asset_id"], row["quantity"]), "")) for row in part.iter_rows(named=True)
        ],
    )


def _csv(frame: pl.DataFrame, units: dict[tuple[str, str], str], name: str) -> Response:
    keys = pl.DataFrame(
        [(asset, quantity, unit) for (asset, quantity), unit in units.items()],
        schema={"asset_id": pl.String, "quantity": pl.String, "unit": pl.String},
        orient="row",
    )
    named = frame.join(keys, on=["asset_id", "quantity"], how="left", maintain_order="left")
    text = named.select("asset_id", "quantity", "unit", "time", "value", "quality").write_csv(
        datetime_format="%Y-%m-%dT%H:%M:%S%.fZ"
    )
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/live", summary="What the site does now")
def live(site_id: str, who: CallerDep) -> Live:
    """The newest value of each point with its age, and the newest setpoint of each actuator."""
    site = site_of(who, site_id)
    now = datetime.now(UTC)
    units = units_of(site)
    frame = read_live(who.db, site.id)
    values = [
        LiveValue(
            asset_id=row["asset_id"],
            quantity=row["quantity"],
            time=row["time"],
            value=row["value"],
            quality=row["quality"],
            unit=units.get((row["asset_id"], row["quantity"]), ""),
            age_s=max(0.0, (now - row["time"]).total_seconds()),
        )
        for row in frame.sort("asset_id", "quantity").iter_rows(named=True)
    ]
    fields = SetpointModel.model_fields.keys()
    rows = latest_setpoints(who.db, site.id).sort("asset_id", "quantity").iter_rows(named=True)
    return Live(
        site=site.id,
        time=now,
        stale=not values or min(value.age_s for value in values) > STALE_AFTER_S,
        values=values,
        setpoints=[SetpointModel(**{name: row[name] for name in fields}) for row in rows],
    )

"""Orders of the grid operator to a site: limits, and setpoints with a ramp and an end, for an asset or the exchange.

The control loop obeys them above the plan, the modes and the operator's own commands; the planner keeps to them as far
as they are known ahead. Standing limits of a site's configuration (`GridCode.limits`) need no order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flexergy_pipelines.store.commands import request_replan
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import period, utc
from flexergy_pipelines.store.notify import COMMAND, notify
from flexergy_pipelines.store.sites import load_site, require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class GridOrder:
    """One order.

    Attributes
    ----------
    asset_id : str
        The asset it is for, or ``pcc`` for the exchange; there import is positive.
    starts_at, ends_at : datetime
        When it holds; `ends_at` None until it is withdrawn, for limits only.
    minimum_kw, maximum_kw : float or None
        A limit: the range that is left.
    setpoint_kw : float or None
        A setpoint: the power that is wanted. An order is a limit or a setpoint.
    ramp_kw_per_s : float or None
        How fast a setpoint is approached; None: as fast as the site's own ramp.
    source : str
        Who ordered it.
    """

    order_id: int
    asset_id: str
    starts_at: datetime
    ends_at: datetime | None
    minimum_kw: float | None
    maximum_kw: float | None
    setpoint_kw: float | None
    ramp_kw_per_s: float | None
    source: str
    reason: str
    created_by: str
    created_at: datetime

    @property
    def text(self) -> str:
        """What is ordered, in words."""
        if self.setpoint_kw is not None:
            ramp = "" if self.ramp_kw_per_s is None else f" by {self.ramp_kw_per_s:g} kW/s"
            return f"setpoint {self.setpoint_kw:g} kW{ramp}"
        if self.minimum_kw is None or self.maximum_kw is None:
            return f"at least {self.minimum_kw:g} kW" if self.maximum_kw is None else f"at most {self.maximum_kw:g} kW"
        return f"{self.minimum_kw:g} to {self.maximum_kw:g} kW"


def give_order(
    db: TenantStore,
    site_id: str,
    asset_id: str,
    *,
    starts_at: datetime,
    ends_at: datetime | None = None,
    minimum_kw: float | None = None,
    maximum_kw: float | None = None,
    setpoint_kw: float | None = None,
    ramp_kw_per_s: float | None = None,
    source: str = "grid operator",
    reason: str,
    user: str,
) -> int:
    """Store an order, tell the control loop, and ask for a new plan.

    Returns
    -------
    int
        Number of the order.

    Raises
    ------
    InvalidDataError
        Unknown asset; neither or both of limit and setpoint; values that are not finite, in the wrong order or outside
        what the asset can do; a setpoint without an end; a ramp that is not positive or of a limit; no reason.
    """
    what = f"order for {asset_id}"
    ranges = load_site(db, site_id).ranges_kw()
    if asset_id not in ranges:
        raise InvalidDataError(f"{what}: the asset must be one of {', '.join(ranges)}")
    low, high = ranges[asset_id]
    named = {"minimum_kw": minimum_kw, "maximum_kw": maximum_kw, "setpoint_kw": setpoint_kw}
    for name, value in named.items():
        if value is None:
            continue
        if isinstance(value, bool) or not math.isfinite(value) or not low <= value <= high:
            raise InvalidDataError(f"{what}: {name} {value} is outside {low:g} to {high:g} kW")
    if (setpoint_kw is None) == (minimum_kw is None and maximum_kw is None):
        raise InvalidDataError(f"{what}: give either setpoint_kw, or minimum_kw, maximum_kw or both")
    if minimum_kw is not None and maximum_kw is not None and minimum_kw > maximum_kw:
        raise InvalidDataError(f"{what}: minimum_kw {minimum_kw:g} is above maximum_kw {maximum_kw:g}")
    if ramp_kw_per_s is not None and (setpoint_kw is None or not 0 < ramp_kw_per_s < math.inf):
        raise InvalidDataError(f"{what}: ramp_kw_per_s {ramp_kw_per_s} is not a positive number of a setpoint")
    if setpoint_kw is not None and ends_at is None:
        raise InvalidDataError(f"{what}: a setpoint needs ends_at, the time at which it lapses")
    first = utc(starts_at, "starts_at")
    last = None if ends_at is None else utc(ends_at, "ends_at")
    if last is not None and last <= first:
        raise InvalidDataError(f"{what}: ends_at {last.isoformat()} must be after starts_at {first.isoformat()}")
    for name, text in (("source", source), ("reason", reason)):
        if not 3 <= len(text.strip()) <= 500:
            raise InvalidDataError(f"{what}: {name} has {len(text.strip())} letters, 3 to 500 are needed")
    with db.begin() as connection:
        order_id: int = connection.exec_driver_sql(
            "INSERT INTO grid_orders (site_id, asset_id, minimum_kw, maximum_kw, setpoint_kw, ramp_kw_per_s, "
            "starts_at, ends_at, source, reason, created_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "RETURNING order_id",
            (
                *(site_id, asset_id, minimum_kw, maximum_kw, setpoint_kw, ramp_kw_per_s),
                *(first, last, source.strip(), reason.strip(), user),
            ),
        ).scalar_one()
        detail = {name: value for name, value in named.items() if value is not None}
        detail |= {"order_id": order_id, "source": source.strip(), "from": first.isoformat()}
        detail |= {"to": last.isoformat() if last else "further notice"}
        record_event(
            db, actor=user, kind="grid_order", site_id=site_id, subject=asset_id, reason=reason.strip(), detail=detail
        )
        notify(connection, COMMAND, db, site_id)
        request_replan(db, site_id, f"{source.strip()} ordered something of {asset_id}")
    return order_id


def withdraw_order(db: TenantStore, site_id: str, order_id: int, *, user: str) -> None:
    """End an order; that it was given stays in the log.

    Raises
    ------
    NotFoundError
        The site has no such order, or it was withdrawn already.
    """
    with db.begin() as connection:
        require_site(connection, site_id)
        row = connection.exec_driver_sql(
            "UPDATE grid_orders SET withdrawn_at = clock_timestamp(), withdrawn_by = %s "
            "WHERE site_id = %s AND order_id = %s AND withdrawn_at IS NULL RETURNING asset_id",
            (user, site_id, order_id),
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"order {order_id} of {site_id} does not exist or is withdrawn already")
        record_event(
            db,
            actor=user,
            kind="grid_order_withdrawn",
            site_id=site_id,
            subject=row[0],
            detail={"order_id": order_id},
        )
        notify(connection, COMMAND, db, site_id)
        request_replan(db, site_id, f"order {order_id} of the grid operator was withdrawn")


def orders_between(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[GridOrder]:
    """Orders that are not withdrawn and touch start..end, in the order in which they were given."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT order_id, asset_id, starts_at, ends_at, minimum_kw, maximum_kw, setpoint_kw, ramp_kw_per_s, "
            "source, reason, created_by, created_at FROM grid_orders WHERE site_id = %s AND withdrawn_at IS NULL "
            "AND starts_at < %s AND coalesce(ends_at, 'infinity') > %s ORDER BY order_id",
            (site_id, last, first),
        ).all()
    return [GridOrder(*row) for row in rows]

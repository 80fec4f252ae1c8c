"""P(f) curves of the grid operator: which power an asset owes at which frequency, and since when."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class FrequencyCurve:
    """A P(f) curve of one asset.

    Attributes
    ----------
    asset_id : str
        Who owes the power.
    valid_from, valid_until : datetime
        When it holds; `valid_until` None until the next one.
    points : tuple of (frequency_hz, power_kw)
        In rising frequency; power beyond the schedule, positive into the busbar. Linear between, constant beyond.
    tolerance_kw : float
        Deviation that still counts as delivered [kW].
    source : str
        Who set it.
    """

    asset_id: str
    valid_from: datetime
    points: tuple[tuple[float, float], ...]
    tolerance_kw: float
    valid_until: datetime | None = None
    source: str = "operator"


def write_frequency_curve(db: TenantStore, site_id: str, curve: FrequencyCurve) -> None:
    """Store a curve; one of the same asset and start is replaced.

    Raises
    ------
    InvalidDataError
        Fewer than two points, frequencies that do not rise or lie outside 40 to 70 Hz, power that rises with frequency.
    """
    what = f"P(f) curve of {curve.asset_id}"
    if len(curve.points) < 2:
        raise InvalidDataError(f"{what}: has {len(curve.points)} points; give at least two")
    for frequency, power in curve.points:
        if not (40 <= frequency <= 70 and math.isfinite(power)):
            raise InvalidDataError(f"{what}: point ({frequency} Hz, {power} kW) is outside 40 to 70 Hz or not finite")
    for (low, at_low), (high, at_high) in pairwise(curve.points):
        if high <= low:
            raise InvalidDataError(f"{what}: {high} Hz follows {low} Hz; give the points in rising frequency")
        if at_high > at_low:
            raise InvalidDataError(f"{what}: power rises from {at_low} to {at_high} kW between {low} and {high} Hz")
    if not (curve.tolerance_kw > 0 and math.isfinite(curve.tolerance_kw)):
        raise InvalidDataError(f"{what}: tolerance_kw {curve.tolerance_kw} is not positive")
    start = utc(curve.valid_from, "valid_from")
    end = utc(curve.valid_until, "valid_until") if curve.valid_until else None
    if end is not None and end <= start:
        raise InvalidDataError(f"{what}: valid_until {end} is not after valid_from {start}")
    with db.begin() as connection:
        require_site(connection, site_id)
        connection.exec_driver_sql(
            "INSERT INTO frequency_curves (site_id, asset_id, valid_from, valid_until, source, points, tolerance_kw) "
            "VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s) ON CONFLICT (tenant_id, site_id, asset_id, valid_from) "
            "DO UPDATE SET valid_until = excluded.valid_until, source = excluded.source, points = excluded.points, "
            "tolerance_kw = excluded.tolerance_kw, received_at = clock_timestamp()",
            (site_id, curve.asset_id, start, end, curve.source, json.dumps(curve.points), curve.tolerance_kw),
        )


def read_frequency_curves(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[FrequencyCurve]:
    """Curves that hold at some time in start <= t < end, by asset and time; each ends where its successor begins."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT * FROM (SELECT asset_id, valid_from, points, tolerance_kw, "
            "least(valid_until, lead(valid_from) OVER (PARTITION BY asset_id ORDER BY valid_from)) AS until, source "
            "FROM frequency_curves WHERE site_id = %s) AS c "
            "WHERE valid_from < %s AND coalesce(until, 'infinity') > %s ORDER BY asset_id, valid_from",
            (site_id, last, first),
        ).all()
    return [
        FrequencyCurve(asset, since, tuple((float(f), float(p)) for f, p in points), tolerance, until, source)
        for asset, since, points, tolerance, until, source in rows
    ]

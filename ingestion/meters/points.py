"""What a site's meters may deliver: the points by every name a file may call them, with unit and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

_SCHEMA = {
    "site_id": pl.String,
    "meter": pl.String,
    "quantity": pl.String,
    "asset_id": pl.String,
    "point_unit": pl.String,
    "minimum": pl.Float64,
    "maximum": pl.Float64,
}

_SCALES = {
    "kW": {"W": 1e-3, "MW": 1e3},
    "kWh": {"Wh": 1e-3, "MWh": 1e3},
    "kvar": {"var": 1e-3, "Mvar": 1e3},
    "kVA": {"VA": 1e-3, "MVA": 1e3},
    "V": {"kV": 1e3, "mV": 1e-3},
    "A": {"kA": 1e3, "mA": 1e-3},
    "Hz": {"mHz": 1e-3},
    "1": {"%": 1e-2, "": 1.0},
    "": {"%": 1e-2, "1": 1.0},
}


@dataclass(frozen=True, slots=True)
class PointMap:
    """The points of one site.

    Attributes
    ----------
    time_zone : str
        IANA name; stamps without offset are read in it.
    rows : tuple
        ``(name, quantity, asset_id, unit, minimum, maximum)``; the same point appears under the id of its asset and
        of its meter.
    """

    time_zone: str
    rows: tuple[tuple[str, str, str, str, float | None, float | None], ...]

    def table(self, site_id: str) -> pl.DataFrame:
        """The points as a frame to join with."""
        return pl.DataFrame([(site_id, *row) for row in self.rows], schema=_SCHEMA, orient="row")

    @staticmethod
    def empty_table() -> pl.DataFrame:
        """The same frame for an installation without sites."""
        return pl.DataFrame(schema=_SCHEMA)


def point_map(site: Site) -> PointMap:
    """All points of a site that a meter file may bring.

    Parameters
    ----------
    site : Site
        The grid model. Setpoints are written by the control loop alone, so writable points are left out.
    """
    names: dict[str, list[str]] = {}
    for meter in site.meters:
        names.setdefault(metered_asset(site, meter.id), []).append(meter.id)
    rows = []
    for point in site.points():
        if point.writable:
            continue
        rows += [
            (name, point.quantity, point.asset_id, point.unit, point.minimum, point.maximum)
            for name in {point.asset_id, *names.get(point.asset_id, [])}
        ]
    return PointMap(site.time_zone, tuple(rows))


def metered_asset(site: Site, meter_id: str) -> str:
    """The asset whose values a meter measures: the grid connection, or the load that names the meter.

    Raises
    ------
    KeyError
        When the site has no such meter.
    """
    roles = {meter.id: meter.role for meter in site.meters}
    if roles[meter_id] == "pcc":
        return site.grid_connection.id
    return next((load.id for load in site.loads if load.meter == meter_id), meter_id)


def unit_factors() -> pl.DataFrame:
    """Factors that bring a unit to the point's own, as rows ``unit, point_unit, factor``."""
    rows = [(unit, own, factor) for own, units in _SCALES.items() for unit, factor in units.items()]
    return pl.DataFrame(rows, schema={"unit": pl.String, "point_unit": pl.String, "factor": pl.Float64}, orient="row")

"""What is forecast: one target per asset and quantity, with all that a model may assume about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

Kind = Literal["pv", "wind", "load", "ev", "controllable_load", "price"]

PRICE_ASSET = "market"
PRICE_QUANTITY = "day_ahead_price_eur_per_kwh"
POWER_QUANTITY = "active_power_kw"
DEFAULT_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the sun is looked up for: degrees north, degrees east, metres above the sea."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """One series to forecast.

    Attributes
    ----------
    site_id, asset_id, quantity : str
        Where the series comes from and where the forecast goes.
    kind : str
        Decides features, bounds and models.
    time_zone : str
        IANA name; calendar features and local days are computed in it.
    step_minutes : int
        Granularity of the forecast [min], 5 to 60.
    horizon_hours : int
        How far ahead [h], 2 to 48 (more is accepted).
    country : str or None
        ISO code for public holidays; None means none are known.
    location : Location or None
        Needed for solar features.
    capacity : float or None
        Upper physical bound in the unit of the series (peak power, rated power).
    tilt_deg, azimuth_deg : float or None
        Plane of a PV plant; azimuth 180° is south.
    hub_height_m : float or None
        Of a wind turbine.
    known_delay_minutes : int
        Time after the end of an interval until its value can be used [min].
    publication_minute : int
        For prices: minute of the local day from which the next day's prices are known [min].
    """

    site_id: str
    asset_id: str
    quantity: str
    kind: Kind
    time_zone: str
    step_minutes: int = 15
    horizon_hours: int = 48
    country: str | None = None
    location: Location | None = None
    capacity: float | None = None
    tilt_deg: float | None = None
    azimuth_deg: float | None = None
    hub_height_m: float | None = None
    known_delay_minutes: int = 0
    publication_minute: int = 12 * 60 + 45

    def __post_init__(self) -> None:
        if not 1 <= self.step_minutes <= 60 or 60 % self.step_minutes:
            raise ValueError(
                f"{self.name}: granularity {self.step_minutes} min is not one of 5, 10, 15, 20, 30, 60 min"
            )
        if not 1 <= self.horizon_hours <= 168:
            raise ValueError(f"{self.name}: horizon {self.horizon_hours} h is outside 1 to 168 h")
        if self.capacity is not None and not 0 < self.capacity < math.inf:
            raise ValueError(f"{self.name}: capacity {self.capacity:g} is not a positive number of {self.unit}")

    @property
    def name(self) -> str:
        """Name of the registered model, unique over sites, e.g. ``microgrid.pv-1.active_power_kw``."""
        return f"{self.site_id}.{self.asset_id}.{self.quantity}"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def horizon(self) -> timedelta:
        return timedelta(hours=self.horizon_hours)

    @property
    def unit(self) -> str:
        return "EUR/kWh" if self.kind == "price" else "kW"

    @property
    def steps_per_day(self) -> int:
        return 1440 // self.step_minutes


def targets_of(site: Site) -> list[Target]:
    """Every series that `site` needs forecast: its sources, its consumers and the day-ahead price.

    Parameters
    ----------
    site : Site
        The configured site; its `forecasts` settings give granularity and horizon, of the site or of one asset.

    Returns
    -------
    list of Target
        In the order of `site.assets()` without those excluded in the site's `forecasts`, the price last.
    """
    from flexergy_pipelines.grid import PVPlant, WindTurbine

    where = Location(site.location.latitude_deg, site.location.longitude_deg, site.location.altitude_m)
    base = Target(
        site_id=site.id,
        asset_id=PRICE_ASSET,
        quantity=PRICE_QUANTITY,
        kind="price",
        time_zone=site.time_zone,
        step_minutes=site.forecasts.granularity_minutes,
        horizon_hours=site.forecasts.horizon_hours,
        country=site.country,
        location=where,
    )
    sources = {source.id: source for source in site.sources()}
    targets: list[Target] = []
    for asset in site.assets():
        if asset.id in site.forecasts.excluded_assets:
            continue
        plant = sources.get(asset.id)
        own = site.forecasts.of(asset.id)
        power = replace(
            base,
            asset_id=asset.id,
            quantity=POWER_QUANTITY,
            step_minutes=own.granularity_minutes or base.step_minutes,
            horizon_hours=own.horizon_hours or base.horizon_hours,
        )
        if isinstance(plant, PVPlant):
            targets.append(
                replace(
                    power,
                    kind="pv",
                    capacity=plant.rated_kw,
                    tilt_deg=plant.tilt_deg,
                    azimuth_deg=plant.azimuth_deg,
                )
            )
        elif isinstance(plant, WindTurbine):
            targets.append(replace(power, kind="wind", capacity=plant.rated_kw, hub_height_m=plant.hub_height_m))
        elif asset.kind in ("load", "ev", "controllable_load"):
            targets.append(replace(power, kind=asset.kind))
    if PRICE_ASSET not in site.forecasts.excluded_assets:
        own = site.forecasts.of(PRICE_ASSET)
        targets.append(replace(base, step_minutes=60, horizon_hours=own.horizon_hours or base.horizon_hours))
    return targets

"""Sun position and clear-sky irradiance from pvlib, and where a plant must stand to see the light when it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.targets import Location
from flexergy_pipelines.forecasting.timegrid import DAY, to_datetimes

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

# fewer days show too little of the seasons to tell a latitude
MIN_DAYS_TO_LOCATE = 120
MIN_LIKENESS = 0.9


class InferredLocation(Location):
    """A place told from when it is light: good for features, too rough to say when it is night."""

    __slots__ = ()


def sun(minutes: Minutes, step: int, location: Location) -> tuple[Floats, Floats, Floats]:
    """Elevation [deg], azimuth [deg] and clear-sky GHI [W/m2] at the middle of each interval.

    The clear sky is Haurwitz's (zenith only), which needs no turbidity data [1]_.

    References
    ----------
    .. [1] B. Haurwitz, "Insolation in relation to cloudiness and cloud density", J. Meteorology 2, 1945.
    """
    import pandas as pd
    from pvlib import clearsky, solarposition

    unique, inverse = np.unique(minutes, return_inverse=True)
    stamps = pd.DatetimeIndex(to_datetimes(unique + step // 2).dt.replace_time_zone(None).to_numpy(), tz="UTC")
    position = solarposition.get_solarposition(
        stamps, location.latitude_deg, location.longitude_deg, altitude=location.altitude_m, method="nrel_numpy"
    )
    clear = clearsky.haurwitz(position["apparent_zenith"])["ghi"]
    columns = (position["apparent_elevation"], position["azimuth"], clear)
    elevation, azimuth, ghi = (np.asarray(column, dtype=np.float64)[inverse] for column in columns)
    return elevation, azimuth, ghi


def plane_of_array(
    minutes: Minutes, ghi: Floats, elevation: Floats, azimuth: Floats, *, tilt_deg: float, azimuth_deg: float
) -> Floats:
    """Irradiance in the plane of the modules [W/m2] from the horizontal one, by Erbs and isotropic sky."""
    from pvlib import irradiance

    zenith = 90.0 - elevation
    day_of_year = (minutes // 1440) % 365.25
    split = irradiance.erbs(np.maximum(ghi, 0.0), zenith, day_of_year)
    total = irradiance.get_total_irradiance(
        tilt_deg, azimuth_deg, zenith, azimuth, split["dni"], np.maximum(ghi, 0.0), split["dhi"]
    )
    return np.asarray(total["poa_global"], dtype=np.float64)


def inferred_location(minutes: Minutes, light: Floats) -> InferredLocation | None:
    """The place whose clear sky resembles best the brightest days of each season, hour by hour.

    Stamps that are off by a constant (ends of intervals, local time without summer time) shift the longitude, so that
    the sun still stands where the data has it.

    Parameters
    ----------
    minutes : ndarray, shape (n,)
        Starts of intervals [min since epoch].
    light : ndarray, shape (n,)
        Irradiance, or power of the plant, in any unit.

    Returns
    -------
    InferredLocation or None
        None where the data shows too little of a year or does not look like sunlight.
    """
    good = np.isfinite(light)
    minutes, light = minutes[good], light[good]
    if minutes.size < 24 * 60 or minutes.max() - minutes.min() < MIN_DAYS_TO_LOCATE * DAY:
        return None
    hour = minutes % DAY // 60
    fortnight = (minutes // DAY % 365.2425 // 14).astype(np.int64)
    cell = fortnight * 24 + hour
    order = np.argsort(cell, kind="stable")
    cells, first = np.unique(cell[order], return_index=True)
    bright = np.array([np.quantile(part, 0.9) for part in np.split(light[order], first[1:])])
    day_of_year = np.asarray(cells // 24 * 14 + 7.5, dtype=np.float64)
    middle = np.asarray(cells % 24 + 0.5, dtype=np.float64)
    if float(bright.std()) <= 0:
        return None

    def best(latitudes: Floats, longitudes: Floats) -> tuple[float, float, float]:
        lat, lon = (grid.reshape(-1, 1) for grid in np.meshgrid(latitudes, longitudes))
        sky = _clear(np.deg2rad(lat), lon, day_of_year[None, :], middle[None, :])
        sky = sky - sky.mean(axis=1, keepdims=True)
        spread = np.sqrt((sky**2).sum(axis=1))
        shown = bright - bright.mean()
        likeness = sky @ shown / np.maximum(spread * np.sqrt((shown**2).sum()), 1e-12)
        k = int(np.argmax(likeness))
        return float(lat[k, 0]), float(lon[k, 0]), float(likeness[k])

    lat, lon, _ = best(np.arange(-65.0, 66.0, 5.0), np.arange(-180.0, 180.0, 7.5))
    lat, lon, likeness = best(np.arange(lat - 5, lat + 5.1, 1.0), np.arange(lon - 7.5, lon + 7.6, 1.5))
    if likeness < MIN_LIKENESS:
        return None
    return InferredLocation(float(np.clip(lat, -90, 90)), (lon + 180.0) % 360.0 - 180.0)


def _clear(latitude: Floats, longitude: Floats, day_of_year: Floats, hour: Floats) -> Floats:
    """Haurwitz's clear sky [W/m2] with Cooper's declination and a two-term equation of time; hours in UTC."""
    declination = np.deg2rad(23.45) * np.sin(2 * np.pi * (284 + day_of_year) / 365)
    turn = 2 * np.pi * (day_of_year - 81) / 364
    equation = 9.87 * np.sin(2 * turn) - 7.53 * np.cos(turn) - 1.5 * np.sin(turn)
    angle = np.deg2rad(15.0 * (hour + equation / 60 - 12) + longitude)
    cosine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    up = np.maximum(cosine, 1e-6)
    return np.where(cosine > 0, 1098.0 * up * np.exp(-0.059 / up), 0.0)

"""Sun position, clear-sky irradiance and a physical estimate of PV power, from pvlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.timegrid import to_datetimes

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.targets import Location
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes


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

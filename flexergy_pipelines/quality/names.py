"""What the header of a column says about its values: a source's power, weather, or something to be taken as it is."""

from __future__ import annotations

import re
from typing import Final

from flexergy_pipelines.quality.spec import SeriesKind


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Long words count wherever they stand in the header, short ones only by themselves, with or without a number behind.
COSTS: Final = re.compile(r"price|preis|tariff|availab|curtail")
COSTS_ALONE: Final = _words("eur euro usd gbp chf cents factor")
POWER: Final = re.compile(r"power|leistung|energy|energie|demand|consumption|verbrauch|generation|erzeugung|production")
POWER_ALONE: Final = _words("kw mw gw kwh mwh gwh wh kvar kva load last")
AS_IT_IS: Final = re.compile(
    r"azimuth|zenith|direction|richtung|visibility|ceiling|ceil.?h|cloud|precip|voltage|spannung|frequency|frequenz|"
    r"holiday|weekday|uncert"
)
AS_IT_IS_ALONE: Final = _words(
    "dir wd wdir aoi angle deg degree degrees elevation volt volts hz soc soh state status mode flag label code "
    "cld totcld opqcld hvis ceilhgt alb albedo aod pwat rain snow"
)
CALENDAR: Final = _words("year month day hour minute second week")  # only as the whole header: second floor is a meter
WEATHER: Final = re.compile(
    r"temperatur|irradi|radiation|strahlung|humid|feuchte|pressure|luftdruck|speed|geschwindigkeit|dry.?bulb|dew.?point|"
    r"(global|direct|diffuse).?(normal|horizontal)|plane.?of.?array"
)
WEATHER_ALONE: Final = _words(
    "temp t2m rh rhum ghi dni dhi gni poa etr etrn uv ws wspd gust celsius kelvin fahrenheit mbar hpa sp rho illum lum"
)
PV_ALONE: Final = frozenset({"pv", "solar", "photovoltaic"})


def kind_by_name(name: str) -> SeriesKind | None:
    """What the header of a column tells of its kind, None when it tells nothing.

    Parameters
    ----------
    name : str
        Header, such as "wind_speed_ms", "Wind Direction", "turbine 4 power kW" or "price_eur_mwh".

    Returns
    -------
    str or None
        "wind" or "pv" for the power of such a source, "weather" for what jumps and stands still but has neither unit
        slips nor a wrong sign, "state" for what is taken as it is (prices, angles, availability, voltages, flags).
    """
    lower = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = set(re.split(r"[^a-zäöüß0-9]+", lower))
    words |= {word.rstrip("0123456789") for word in words}
    if COSTS.search(lower) or words & COSTS_ALONE or lower.strip() in CALENDAR:
        return "state"
    if not (POWER.search(lower) or words & POWER_ALONE):
        if AS_IT_IS.search(lower) or words & AS_IT_IS_ALONE:
            return "state"
        if WEATHER.search(lower) or words & WEATHER_ALONE:
            return "weather"
    if "wind" in lower or "turbine" in lower:
        return "wind"
    return "pv" if words & PV_ALONE else None

"""Which weather providers a running installation asks."""

from __future__ import annotations

import os

from flexergy_pipelines.settings import Settings, read_endpoints
from ingestion.weather.model import WeatherProvider
from ingestion.weather.open_meteo import PUBLIC_URL, OpenMeteo

URL_VARIABLE = "FLEXERGY_WEATHER_URL"


def configured_providers(settings: Settings) -> list[WeatherProvider]:
    """The providers to ask, best first.

    FLEXERGY_WEATHER_URL names an Open-Meteo-format service (several separated by commas); without it a running
    simulator's weather is used, and without that the public Open-Meteo service.
    """
    named = [part.strip() for part in os.environ.get(URL_VARIABLE, "").split(",") if part.strip()]
    if named:
        return [OpenMeteo(url, name=_label(number)) for number, url in enumerate(named)]
    published = read_endpoints(settings).get("weather")
    return [OpenMeteo(published or PUBLIC_URL)]


def _label(number: int) -> str:
    return "open_meteo" if number == 0 else f"open_meteo_{number + 1}"

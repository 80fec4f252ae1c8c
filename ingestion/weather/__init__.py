"""Weather acquisition: providers behind one interface, gaps, time step, stand-in from history."""

from ingestion.weather.model import COLUMNS, WeatherError, WeatherForecast, WeatherProvider, WeatherRequest
from ingestion.weather.open_meteo import OpenMeteo
from ingestion.weather.providers import configured_providers
from ingestion.weather.service import WeatherResult, fetch_weather

__all__ = [
    "COLUMNS",
    "OpenMeteo",
    "WeatherError",
    "WeatherForecast",
    "WeatherProvider",
    "WeatherRequest",
    "WeatherResult",
    "configured_providers",
    "fetch_weather",
]

"""Which weather providers a site asks: by ``<home>/weather.yaml``, an environment variable, or the usual ones.

::

    providers:
      - {name: open_meteo, kind: open_meteo, archive_url: "https://archive-api.open-meteo.com"}
      - {name: met, kind: met_norway, contact: operations@example.org}
      - name: own_station
        kind: table
        source: https://weather.example.org/forecast.csv?lat={latitude}&lon={longitude}
        columns:
          shortwave_radiation_w_m2: {column: ghi}
          temperature_2m_c: {column: temp_k, offset: -273.15}
          wind_speed_10m_ms: {column: wind10}
          wind_speed_100m_ms: {column: wind100}
          cloud_cover_pct: {column: clouds, scale: 100}
    ensembles:
      - {name: both, members: [open_meteo, met]}
    default: [both, own_station]
    sites:
      microgrid: [own_station, open_meteo]
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flexergy_pipelines.settings import Settings, read_endpoints
from ingestion.weather.ensemble import Ensemble
from ingestion.weather.met_norway import PUBLIC_URL as MET_NORWAY_URL
from ingestion.weather.met_norway import MetNorway
from ingestion.weather.model import COLUMNS, WeatherProvider
from ingestion.weather.open_meteo import PUBLIC_ARCHIVE_URL, PUBLIC_URL, OpenMeteo
from ingestion.weather.table import ColumnSource, TableProvider
from ingestion.weather.transport import RetryRules

URL_VARIABLE = "FLEXERGY_WEATHER_URL"
FILE_NAME = "weather.yaml"


class WeatherConfigError(Exception):
    """The configuration of weather providers is wrong; the message names field and value."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Rules(_Model):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0

    @property
    def rules(self) -> RetryRules:
        return RetryRules(attempts=self.attempts, timeout_s=self.timeout_s)


class OpenMeteoSettings(_Rules):
    """Open-Meteo, or a service in its format; with `ensemble` its ensemble models' mean."""

    kind: Literal["open_meteo"]
    url: Annotated[str, Field(pattern=r"^https?://")] = PUBLIC_URL
    ensemble: bool = False
    models: str | None = None
    archive_url: Annotated[str, Field(pattern=r"^https?://")] | None = None

    def build(self) -> WeatherProvider:
        archive = self.archive_url or (PUBLIC_ARCHIVE_URL if self.url == PUBLIC_URL else None)
        return OpenMeteo(
            self.url, self.rules, self.name, ensemble=self.ensemble, models=self.models, archive_url=archive
        )


class MetNorwaySettings(_Rules):
    """MET Norway."""

    kind: Literal["met_norway"]
    contact: Annotated[str, Field(min_length=3)]
    url: Annotated[str, Field(pattern=r"^https?://")] = MET_NORWAY_URL

    def build(self) -> WeatherProvider:
        return MetNorway(self.contact, self.url, self.rules, self.name)


class _Column(_Model):
    column: str
    scale: Annotated[float, Field(strict=False)] = 1.0
    offset: Annotated[float, Field(strict=False)] = 0.0


class TableSettings(_Rules):
    """A CSV behind a URL or in a file."""

    kind: Literal["table"]
    source: str
    columns: dict[str, _Column]
    time_column: str = "time"
    step_minutes: Literal[5, 10, 15, 20, 30, 60] = 60
    stamp: Literal["start", "end"] = "start"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("columns")
    @classmethod
    def _all_columns(cls, value: dict[str, _Column]) -> dict[str, _Column]:
        if set(value) != set(COLUMNS):
            raise ValueError(f"needs exactly {', '.join(COLUMNS)}")
        return value

    @field_validator("source")
    @classmethod
    def _known_places(cls, value: str) -> str:
        try:
            value.format(latitude="", longitude="", start="", end="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may only hold the places {latitude}, {longitude}, {start} and {end}") from error
        return value

    def build(self) -> WeatherProvider:
        columns = {name: ColumnSource(c.column, c.scale, c.offset) for name, c in self.columns.items()}
        return TableProvider(
            self.name, self.source, columns, self.time_column, timedelta(minutes=self.step_minutes), self.stamp,
            self.separator, self.headers, self.rules,
        )  # fmt: skip


class _EnsembleSettings(_Model):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
    members: Annotated[list[str], Field(min_length=2)]
    least: Annotated[int, Field(ge=1)] = 1


AnyProvider = Annotated[OpenMeteoSettings | MetNorwaySettings | TableSettings, Field(discriminator="kind")]


class WeatherSettings(_Model):
    """Contents of ``weather.yaml``."""

    providers: Annotated[list[AnyProvider], Field(min_length=1)]
    ensembles: list[_EnsembleSettings] = Field(default_factory=list)
    default: list[str] = Field(default_factory=list)
    sites: dict[str, list[str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names(self) -> WeatherSettings:
        names = [item.name for item in [*self.providers, *self.ensembles]]
        double = {name for name in names if names.count(name) > 1}
        if double:
            raise ValueError(f"{', '.join(sorted(double))} is named twice")
        single = {item.name for item in self.providers}
        uses = [("default", self.default, set(names)), *((f"sites.{k}", v, set(names)) for k, v in self.sites.items())]
        uses += [(f"ensembles.{item.name}", item.members, single) for item in self.ensembles]
        for place, wanted, known in uses:
            for name in wanted:
                if name not in known:
                    raise ValueError(f"{place}: {name} is no provider; known: {', '.join(sorted(known))}")
        return self

    def build(self, site_id: str) -> list[WeatherProvider]:
        """Providers of a site, best first."""
        single = {item.name: item.build() for item in self.providers}
        everything = single | {
            item.name: Ensemble([single[name] for name in item.members], item.least, item.name)
            for item in self.ensembles
        }
        wanted = self.sites.get(site_id) or self.default or list(single)
        return [everything[name] for name in wanted]


def parse_settings(data: Any) -> WeatherSettings:
    """Check the configuration.

    Raises
    ------
    WeatherConfigError
        One line that names the first wrong field.
    """
    try:
        return WeatherSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        value = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r}"
        raise WeatherConfigError(f"{FILE_NAME}: {place + ': ' if place else ''}{first['msg']}{value}") from error


def configured_providers(settings: Settings, site_id: str = "") -> list[WeatherProvider]:
    """The providers that a site asks, best first.

    FLEXERGY_WEATHER_URL names Open-Meteo-format services (several separated by commas) and comes before all; then
    ``weather.yaml`` in the home folder; then the running simulator's weather; then the public Open-Meteo service.

    Raises
    ------
    WeatherConfigError
        When ``weather.yaml`` is wrong.
    """
    named = [part.strip() for part in os.environ.get(URL_VARIABLE, "").split(",") if part.strip()]
    if named:
        return [OpenMeteo(url, name=_label(number)) for number, url in enumerate(named)]
    try:
        text = (settings.home / FILE_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        own = read_endpoints(settings).get("weather")
        return [OpenMeteo(own or PUBLIC_URL, archive_url=None if own else PUBLIC_ARCHIVE_URL)]
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WeatherConfigError(f"{FILE_NAME}: not well-formed YAML: {str(error).splitlines()[0]}") from error
    return parse_settings(data).build(site_id)


def _label(number: int) -> str:
    return "open_meteo" if number == 0 else f"open_meteo_{number + 1}"

"""MET Norway, tables, ensembles, and which site asks whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexergy_pipelines.settings import Settings
from ingestion.weather import OpenMeteo, WeatherError, WeatherRequest, configured_providers
from ingestion.weather.ensemble import Ensemble
from ingestion.weather.met_norway import MetNorway
from ingestion.weather.model import COLUMNS
from ingestion.weather.providers import WeatherConfigError, parse_settings
from ingestion.weather.table import ColumnSource, TableProvider
from ingestion.weather.timestep import clear_sky_w_m2
from ingestion.weather.transport import RetryRules
from tests.ingestion.answers import Reply, as_json, changed_weather, good_weather, open_meteo_body, serving, status

NOW = datetime(2026, 6, 20, 9, 20, tzinfo=UTC)
START = NOW.replace(minute=0)
HOUR = timedelta(hours=1)
REQUEST = WeatherRequest(52.0, 5.0, 3.0, START, START + timedelta(days=2))
ONCE = RetryRules(attempts=1, timeout_s=5.0)


def met_body(cloud: float = 50.0, updated: datetime = NOW - timedelta(hours=1)) -> dict[str, Any]:
    """Two and a half days by the hour, then every six hours."""
    stamps = [START + HOUR * i for i in range(60)] + [START + HOUR * (60 + 6 * i) for i in range(10)]
    details = {"air_temperature": 15.5, "wind_speed": 5.0, "cloud_area_fraction": cloud, "dew_point_temperature": 3.0}
    units = {"air_temperature": "celsius", "wind_speed": "m/s", "cloud_area_fraction": "%"}
    return {
        "type": "Feature",
        "properties": {
            "meta": {"updated_at": f"{updated:%Y-%m-%dT%H:%M:%SZ}", "units": units},
            "timeseries": [
                {"time": f"{stamp:%Y-%m-%dT%H:%M:%SZ}", "data": {"instant": {"details": dict(details)}}}
                for stamp in stamps
            ],
        },
    }


@pytest.mark.parametrize(("cloud", "share"), [(0.0, 1.0), (100.0, 0.25), (50.0, 1 - 0.75 * 0.5**3.4)])
def test_met_norways_clouds_become_irradiance_and_its_wind_rises_with_height(cloud: float, share: float) -> None:
    with serving(lambda _query: as_json(met_body(cloud))) as service:
        frame = MetNorway("ops@example.org", service.url, ONCE).forecast(REQUEST, NOW).frame
    clear = clear_sky_w_m2(frame["time"].to_list(), HOUR, 52.0, 5.0)
    assert frame["shortwave_radiation_w_m2"].to_list() == pytest.approx(list(clear * share), abs=1e-6)
    assert frame["wind_speed_100m_ms"][0] == pytest.approx(5.0 * 10 ** (1 / 7))
    assert frame.height == 48


def wrong_unit(body: dict[str, Any]) -> None:
    body["properties"]["meta"]["units"]["wind_speed"] = "knots"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_unit, "wind_speed came in 'knots', expected m/s"),
        (lambda body: body["properties"].pop("timeseries"), "properties.timeseries: Field required"),
        (lambda body: body["properties"]["meta"].update(updated_at="2026-06-18T00:00:00Z"), "stale: last updated"),
        (lambda body: body["properties"]["timeseries"].__delitem__(slice(20, None)), "stale: covers"),
        (
            lambda body: body["properties"]["timeseries"][4]["data"]["instant"]["details"].update(
                air_temperature="hot"
            ),
            "timeseries.4.data.instant.details.air_temperature",
        ),
    ],
)
def test_a_changed_answer_of_met_norway_is_refused(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    body = met_body()
    change(body)
    with serving(lambda _query: as_json(body)) as service, pytest.raises(WeatherError, match=message):
        MetNorway("ops@example.org", service.url, ONCE).forecast(REQUEST, NOW)


SOURCES = {
    "shortwave_radiation_w_m2": ColumnSource("ghi"),
    "temperature_2m_c": ColumnSource("kelvin", offset=-273.15),
    "wind_speed_10m_ms": ColumnSource("w10"),
    "wind_speed_100m_ms": ColumnSource("w100"),
    "cloud_cover_pct": ColumnSource("clouds", scale=100.0),
}


def csv(rows: int = 60, value: str = "283.15") -> str:
    lines = ["time;ghi;kelvin;w10;w100;clouds;other"]
    lines += [f"{START + HOUR * i:%Y-%m-%d %H:%M};100;{value};3;4;0.5;x" for i in range(rows)]
    return "\n".join(lines) + "\n"


def table(source: str, **settings: Any) -> TableProvider:
    return TableProvider("station", source, SOURCES, separator=";", rules=ONCE, **settings)


def test_a_table_over_http_is_scaled_and_asked_for_its_place() -> None:
    with serving(lambda _query: Reply(body=csv().encode())) as service:
        answer = table(service.url + "/f.csv?lat={latitude}&lon={longitude}&from={start}").forecast(REQUEST, NOW)
    assert service.requests[0] == {"lat": "52.00000", "lon": "5.00000", "from": "2026-06-20T09:00Z"}
    assert answer.frame.height == 48
    row = answer.frame.row(0, named=True)
    assert row["temperature_2m_c"] == pytest.approx(10.0)
    assert row["cloud_cover_pct"] == pytest.approx(50.0)


def test_a_table_stamped_with_the_end_of_its_hours_moves_back(tmp_path: Path) -> None:
    path = tmp_path / "weather.csv"
    path.write_text(csv().replace(";100;", ";0;", 2).replace(";0;", ";700;", 1))
    shifted = WeatherRequest(52.0, 5.0, 3.0, START - HOUR, START + timedelta(days=1))
    frame = table(str(path), stamp="end").forecast(shifted, NOW).frame
    assert frame["time"][0] == START - HOUR
    assert frame["shortwave_radiation_w_m2"][0] == 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (csv(20), "stale: covers 2026-06-20T09:00Z to 2026-06-21T05:00Z"),
        (csv(value="warm"), "temperature_2m_c holds 'warm', which is no number"),
        (csv(value="9999"), "temperature_2m_c 9725.* is outside -90..60"),
        (csv().replace("w100", "gust"), "no column 'w100'; the table has time, ghi"),
        (csv().replace("2026-06-20 12:00", "noon"), "'time' holds something that is no ISO 8601 time"),
        (csv().replace("2026-06-20 12:00", "2026-06-20 12:30"), "rows are not 1:00:00 apart"),
        ("", "no readable table"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "weather.csv"
    path.write_text(text)
    with pytest.raises(WeatherError, match=message):
        table(str(path)).forecast(REQUEST, NOW)


def test_a_missing_file_is_a_failed_provider(tmp_path: Path) -> None:
    with pytest.raises(WeatherError, match=r"station: .*No such file"):
        table(str(tmp_path / "none.csv")).forecast(REQUEST, NOW)


def warmer(degrees: float) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body["hourly"]["temperature_2m"] = [t + degrees for t in body["hourly"]["temperature_2m"]]

    return change


def test_an_ensemble_is_the_mean_of_the_members_that_answer() -> None:
    with (
        serving(good_weather(NOW)) as one,
        serving(changed_weather(NOW, warmer(4.0))) as two,
        serving(status(500)) as dead,
    ):
        members = [OpenMeteo(service.url, ONCE, f"m{i}") for i, service in enumerate((one, two, dead))]
        plain = members[0].forecast(REQUEST, NOW).frame
        both = Ensemble(members).forecast(REQUEST, NOW).frame
        with pytest.raises(WeatherError, match="ensemble: 2 of 3 members: m2: HTTP 500"):
            Ensemble(members, least=3).forecast(REQUEST, NOW)
    assert (both["temperature_2m_c"] - plain["temperature_2m_c"]).to_list() == pytest.approx([2.0] * 48)
    assert both["wind_speed_10m_ms"].to_list() == pytest.approx(plain["wind_speed_10m_ms"].to_list())


def test_open_meteos_own_ensemble_is_averaged_over_its_members() -> None:
    body = open_meteo_body(NOW, 2, 60)
    for name in [key for key in body["hourly"] if key != "time"]:
        body["hourly"][f"{name}_member01"] = [value + 2.0 for value in body["hourly"][name]]
    with serving(lambda _query: as_json(body)) as service:
        frame = OpenMeteo(service.url, ONCE, ensemble=True).forecast(REQUEST, NOW).frame
        plain = OpenMeteo(service.url, ONCE).forecast(REQUEST, NOW).frame
    assert (frame["wind_speed_10m_ms"] - plain["wind_speed_10m_ms"]).to_list() == pytest.approx([1.0] * 48)


CONFIG = """
providers:
  - {name: usual, kind: open_meteo}
  - {name: met, kind: met_norway, contact: ops@example.org, attempts: 2}
ensembles:
  - {name: both, members: [usual, met]}
default: [both, usual]
sites:
  microgrid: [met]
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("FLEXERGY_WEATHER_URL", raising=False)
    return Settings(home=tmp_path, database_url=None, tenant="demo")


@pytest.mark.requirement("energy.01.2")
def test_every_site_may_ask_others(home: Settings) -> None:
    (home.home / "weather.yaml").write_text(CONFIG)
    assert [provider.name for provider in configured_providers(home, "microgrid")] == ["met"]
    assert [provider.name for provider in configured_providers(home, "hybrid-park")] == ["both", "usual"]


def test_without_a_file_the_simulators_weather_comes_before_the_public_one(home: Settings) -> None:
    assert configured_providers(home) == [OpenMeteo(archive_url="https://archive-api.open-meteo.com")]
    home.run_dir.mkdir()
    home.endpoints_file.write_text(json.dumps({"weather": "http://127.0.0.1:7"}))
    assert configured_providers(home) == [OpenMeteo("http://127.0.0.1:7")]


def test_the_environment_names_services_in_their_order(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.home / "weather.yaml").write_text(CONFIG)
    monkeypatch.setenv("FLEXERGY_WEATHER_URL", "http://a.example, http://b.example")
    names = [provider.name for provider in configured_providers(home, "microgrid")]
    assert names == ["open_meteo", "open_meteo_2"]


TABLE = {"name": "t", "kind": "table", "source": "f.csv", "columns": {name: {"column": name} for name in COLUMNS}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "Input should be a valid dictionary"),
        ({"providers": []}, "providers: List should have at least 1 item"),
        ({"providers": [{"name": "x", "kind": "oracle"}]}, "providers.0: Input tag 'oracle'"),
        ({"providers": [{"name": "x", "kind": "met_norway"}]}, "providers.0.met_norway.contact: Field required"),
        ({"providers": [{"name": "x", "kind": "open_meteo", "url": "ftp://x"}]}, "url: .*got 'ftp://x'"),
        ({"providers": [{"name": "x", "kind": "open_meteo", "attempts": 99}]}, "attempts: .*10, got 99"),
        ({"providers": [{"name": "x", "kind": "open_meteo"}] * 2}, "x is named twice"),
        ({"providers": [TABLE], "default": ["y"]}, "default: y is no provider; known: t"),
        ({"providers": [TABLE | {"columns": {}}]}, "columns: .*needs exactly shortwave_radiation_w_m2"),
        ({"providers": [TABLE | {"source": "{planet}"}]}, "source: .*may only hold the places"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(data: Any, message: str) -> None:
    with pytest.raises(WeatherConfigError, match=message) as caught:
        parse_settings(data)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_yaml_says_so(home: Settings) -> None:
    (home.home / "weather.yaml").write_text("providers: [")
    with pytest.raises(WeatherConfigError, match="not well-formed YAML"):
        configured_providers(home)


def test_the_example_in_the_documentation_is_valid(home: Settings) -> None:
    import ingestion.weather.providers as module

    example = (module.__doc__ or "").partition("::")[2]
    (home.home / "weather.yaml").write_text(yaml.safe_dump(yaml.safe_load(example)))
    assert [p.name for p in configured_providers(home, "microgrid")] == ["own_station", "open_meteo"]

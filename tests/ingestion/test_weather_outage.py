"""A weather outage from end to end: providers die one by one, forecasts stay, the operator knows, all recovers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.serving import serve_site
from flexergy_pipelines.forecasting.site_data import read_weather as read_for_models
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import list_forecast_runs, read_forecast
from flexergy_pipelines.store.weather import read_weather, read_weather_archive, read_weather_issues, write_weather
from ingestion.weather import COLUMNS, OpenMeteo, WeatherError, fetch_weather
from ingestion.weather.archive import fetch_archive, missing_spans
from ingestion.weather.model import TIME
from ingestion.weather.service import ALARM_CODE
from ingestion.weather.transport import RetryRules
from tests.ingestion.answers import (
    Answerer,
    Reply,
    as_json,
    changed_weather,
    good_weather,
    open_meteo_body,
    serving,
    status,
)

NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)
START = NOW.replace(minute=0)
ONCE = RetryRules(attempts=1, timeout_s=0.3)


def history(db: TenantStore, site: Site, days: int = 40) -> None:
    """Weather as issued each day, and measurements of all targets."""
    for day in range(days, 0, -1):
        issued = START - timedelta(days=day)
        frame = pl.DataFrame({"time": pl.Series([issued + timedelta(hours=i) for i in range(24)], dtype=TIME)})
        values = {name: [float(10 + (i + day) % 24) for i in range(24)] for name in COLUMNS}
        write_weather(db, site.id, "first", issued, frame.with_columns(**{n: pl.Series(v) for n, v in values.items()}))
    times = [START - timedelta(minutes=15 * i) for i in range(days * 96, 0, -1)]
    wave = 20 + 10 * np.sin(np.arange(len(times)) / 96 * 2 * np.pi)
    parts = [
        pl.DataFrame({"time": times, "value": wave}).with_columns(
            asset_id=pl.lit(target.asset_id), quantity=pl.lit(target.quantity), flag=pl.lit(None, dtype=pl.String),
            uncertainty=pl.lit(None, dtype=pl.Float64),
        )
        for target in targets_of(site) if target.asset_id != "market"
    ]  # fmt: skip
    write_clean(db, site.id, pl.concat(parts))


def active(db: TenantStore, site: Site) -> dict[str, int]:
    alarms = list_alarms(db, site.id).filter(pl.col("code") == ALARM_CODE)
    return dict(zip(alarms["code"], alarms["severity"], strict=True))


@pytest.mark.requirement("energy.01.3", "energy.03.3")
def test_providers_die_forecasts_stay_and_all_recovers_by_itself(db: TenantStore, site: Site, tmp_path: Path) -> None:
    history(db, site)
    registry = ModelRegistry("http://127.0.0.1:9", tmp_path)
    with serving(good_weather(NOW)) as second:
        with serving(good_weather(NOW)) as first:
            providers = [OpenMeteo(first.url, ONCE, "first"), OpenMeteo(second.url, ONCE, "second")]
            assert fetch_weather(db, site.id, NOW, providers).provider == "first"
        # the first provider's server is gone
        moved = fetch_weather(db, site.id, NOW + timedelta(minutes=1), providers)
        assert moved.provider == "second"
        assert moved.failures[0].startswith("first: connection failed")
        assert active(db, site) == {}

    # a day later both are gone, and no earlier forecast reaches far enough
    outage = NOW + timedelta(hours=30)
    result = fetch_weather(db, site.id, outage, providers)
    assert (result.provider, result.fallback) == ("similar_day", True)
    assert active(db, site) == {ALARM_CODE: 3}
    served = {one.target.asset_id: one for one in serve_site(db, site.id, outage, registry)}
    assert set(served) == {target.asset_id for target in targets_of(site)}
    for asset in ("pv-1", "wind-1", "load-1"):
        assert "weather of a similar day stands in for " in served[asset].reason
        ahead = read_forecast(
            db, site.id, asset, "active_power_kw", outage, outage + timedelta(hours=48), known_at=outage
        )
        assert ahead.height == 192
        assert np.isfinite(ahead["value"].to_numpy()).all()
    runs = list_forecast_runs(db, site.id, asset_id="pv-1")
    assert "similar day stands in" in runs["reason"][0]

    # the first comes back
    back = outage + timedelta(hours=1)
    with serving(good_weather(back)) as revived:
        again = [OpenMeteo(revived.url, ONCE, "first"), providers[1]]
        assert fetch_weather(db, site.id, back, again).provider == "first"
    assert active(db, site) == {}
    later = {one.target.asset_id: one for one in serve_site(db, site.id, back, registry)}
    assert "stands in" not in later["pv-1"].reason


def _stale(body: dict[str, Any]) -> None:
    hourly = body["hourly"]
    hourly["time"] = [f"{datetime.fromisoformat(t) - timedelta(hours=36):%Y-%m-%dT%H:%M}" for t in hourly["time"]]


def _renamed(body: dict[str, Any]) -> None:
    body["hourly"]["ghi"] = body["hourly"].pop("shortwave_radiation")


def _other_unit(body: dict[str, Any]) -> None:
    body["hourly_units"]["wind_speed_10m"] = "km/h"


def _half(query: dict[str, str]) -> Reply:
    whole = good_weather(NOW)(query).body
    return Reply(body=whole[: len(whole) // 2], announced_length=len(whole))


LATE = threading.Event()
FAULTS: dict[str, Answerer] = {
    "busy": status(429, Retry_After="0"),
    "broken": status(500),
    "slow": lambda _query: Reply(hold=LATE),
    "truncated": _half,
    "stale": changed_weather(NOW, _stale),
    "renamed field": changed_weather(NOW, _renamed),
    "other unit": changed_weather(NOW, _other_unit),
}


@pytest.mark.requirement("energy.01.3")
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_with_an_answer_the_next_provider_serves(db: TenantStore, site: Site, fault: str) -> None:
    with serving(FAULTS[fault]) as bad, serving(good_weather(NOW)) as good:
        providers = [OpenMeteo(bad.url, ONCE, "bad"), OpenMeteo(good.url, ONCE, "good")]
        result = fetch_weather(db, site.id, NOW, providers)
        LATE.set()
    LATE.clear()
    assert result.provider == "good"
    assert result.failures[0].startswith("bad: ")
    stored = read_weather(db, site.id, START, START + timedelta(days=2))
    assert set(stored["provider"].to_list()) == {"good"}


def archive_answer(query: dict[str, str]) -> Reply:
    first = datetime.fromisoformat(query["start_date"]).replace(tzinfo=UTC)
    last = datetime.fromisoformat(query["end_date"]).replace(tzinfo=UTC)
    return as_json(open_meteo_body(first, 0, int((last - first) / timedelta(hours=1)) + 24))


@pytest.mark.requirement("module.weather")
def test_a_new_site_gets_the_weather_that_was_once_and_models_learn_from_it(db: TenantStore, site: Site) -> None:
    with serving(archive_answer) as service:
        provider = OpenMeteo("http://127.0.0.1:9", ONCE, "first", archive_url=service.url)
        found = fetch_archive(db, site.id, NOW, [provider], 30)
        assert (found.provider, found.days) == ("first", 24)
        assert fetch_archive(db, site.id, NOW, [provider], 30).days == 0
        assert fetch_archive(db, site.id, NOW + timedelta(days=1), [provider], 31).days == 1
        assert len(service.requests) == 2
    known = read_weather_archive(db, site.id, NOW - timedelta(days=40), NOW)
    assert known.height == 25 * 24
    noon = known.filter(pl.col("time").dt.hour() == 12).row(0, named=True)
    assert noon["shortwave_radiation_w_m2"] == 370.0
    assert read_weather_issues(db, site.id, NOW - timedelta(days=40), NOW, timedelta(hours=12)).is_empty()

    write_weather(db, site.id, "first", START - timedelta(days=10), known.tail(24).with_columns(
        pl.col("time") + timedelta(days=3)))  # fmt: skip
    panel = read_for_models(db, site.id, NOW)
    assert panel is not None
    learnt = panel.filter(pl.col("issued_at") < START - timedelta(days=10))
    assert learnt["time"].max() < START - timedelta(days=10)  # type: ignore[operator]
    ahead = (learnt["time"] - learnt["issued_at"]).dt.total_hours()
    assert (ahead.min(), ahead.max()) == (0, 47)
    assert panel.filter(pl.col("issued_at") >= START - timedelta(days=10))["issued_at"].n_unique() == 1


def test_an_archive_that_fails_says_so_and_days_are_asked_in_spans(db: TenantStore, site: Site) -> None:
    with serving(status(500)) as service:
        provider = OpenMeteo("http://127.0.0.1:9", ONCE, "first", archive_url=service.url)
        with pytest.raises(WeatherError, match="first archive: HTTP 500"):
            fetch_archive(db, site.id, NOW, [provider], 30)
    assert fetch_archive(db, site.id, NOW, [OpenMeteo("http://127.0.0.1:9", ONCE)], 30).days == 0
    day = NOW.date()
    have = {day + timedelta(days=2), day + timedelta(days=3)}
    assert missing_spans(day, day + timedelta(days=6), have) == [
        (day, day + timedelta(days=2)),
        (day + timedelta(days=4), day + timedelta(days=6)),
    ]
    assert len(missing_spans(day, day + timedelta(days=800), set())) == 3

"""`flexergy read`: the newest values of a meter, or those of a period."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.live import write_live
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site
from ingestion.meters.cli import app


@pytest.fixture
def ask(store_settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command in an installation that holds the microgrid."""
    assert store_settings.database_url is not None
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store_settings.database_url)
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    return lambda *words: CliRunner().invoke(app, list(words))


def frame(value: float, time: datetime, quantity: str = "active_power_kw") -> pl.DataFrame:
    return pl.DataFrame(
        {"asset_id": ["pcc"], "quantity": [quantity], "time": [time], "value": [value], "quality": [0]},
        schema_overrides={"time": pl.Datetime("us", "UTC"), "quality": pl.Int16},
    )


@pytest.mark.requirement("infra.02.4")
def test_the_newest_value_of_each_quantity_is_shown(ask: Any, db: TenantStore) -> None:
    now = datetime.now(UTC)
    write_readings(db, "microgrid", frame(1.0, now - timedelta(minutes=20)), "test")
    write_readings(db, "microgrid", frame(50.0, now - timedelta(minutes=20), "frequency_hz"), "test")
    write_live(db, "microgrid", frame(2.5, now - timedelta(seconds=1)))
    answer = json.loads(ask("pcc-meter", "--json").stdout)
    assert (answer["site"], answer["asset"]) == ("microgrid", "pcc")
    shown = {row["quantity"]: (row["value"], row["unit"], row["quality"]) for row in answer["values"]}
    assert shown == {"active_power_kw": (2.5, "kW", "good"), "frequency_hz": (50.0, "Hz", "good")}


@pytest.mark.requirement("infra.02.4", "asset.04.5")
def test_a_period_shows_every_value_in_the_sites_time(ask: Any, db: TenantStore) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for minutes in (10, 50, 70):
        write_readings(db, "microgrid", frame(float(minutes), now - timedelta(minutes=minutes)), "test")
    values = json.loads(ask("pcc", "--last", "1h", "--json").stdout)["values"]
    assert [row["value"] for row in values] == [50.0, 10.0]
    assert datetime.fromisoformat(values[1]["time"]) == now - timedelta(minutes=10)
    assert "active_power_kw" in ask("pcc", "--last", "1h").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "'nope' is no meter or asset; meters: microgrid/"),
        (["pcc", "--site", "atlantis"], "--site atlantis: no such site; known: microgrid"),
        (["pcc", "--last", "soon"], "--last soon: give a number and min, h or d"),
        (["pcc", "--last", "0h"], "--last 0h: give a number"),
        (["pcc", "--last", "99999d"], "--last 99999d: at most 3660d"),
    ],
)
def test_a_wrong_word_is_named(ask: Any, words: list[str], message: str) -> None:
    result = ask(*words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_id_that_two_sites_have_needs_the_site(ask: Any, db: TenantStore) -> None:
    save_site(db, sample_site("hybrid-park"))
    result = ask("pcc-meter")
    assert (result.exit_code, "say which with --site" in result.stderr) == (2, True)
    assert ask("pcc-meter", "--site", "hybrid-park").stdout == "hybrid-park/pcc-meter: no value was ever read\n"

"""Import of the samples: a year of history as if it had been measured, once, all of it or nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore, sample
from flexergy_pipelines.store.clean import read_clean
from flexergy_pipelines.store.prices import read_prices
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sample import import_sample, published_at, sample_history, sample_prices, sample_weather
from flexergy_pipelines.store.sites import list_sites, load_site
from flexergy_pipelines.store.weather import read_weather_as_issued

NOW = datetime(2026, 11, 23, 14, 7, tzinfo=UTC)
START = datetime(2025, 11, 23, 23, 0, tzinfo=UTC)
END = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


@pytest.fixture(scope="module", params=["microgrid", "hybrid-park"])
def replayed(request: pytest.FixtureRequest) -> ReplayedSite:
    site = sample_site(request.param)
    return ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))


def wide(history: pl.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    return {
        (str(asset), str(quantity)): frame.sort("time")["value"].fill_null(np.nan).to_numpy()
        for (asset, quantity), frame in history.partition_by("asset_id", "quantity", as_dict=True).items()
    }


@pytest.mark.requirement("asset.04.1")
def test_the_history_balances_and_keeps_every_limit(replayed: ReplayedSite) -> None:
    site = replayed.site
    history = wide(sample_history(replayed, START, END))
    demand = sum(
        v
        for (a, q), v in history.items()
        if q == "active_power_kw" and site.asset(a).kind in ("load", "controllable_load", "ev")
    )
    supply = sum(
        v
        for (a, q), v in history.items()
        if q == "active_power_kw" and site.asset(a).kind in ("pv", "wind", "ess", "genset", "pcc")
    )
    known = np.isfinite(np.asarray(supply))
    assert known.mean() > 0.9
    # Standing turbines draw a few kW, which the replayed plant does not.
    draw = 40.0 if site.id == "hybrid-park" else 0.01
    assert np.abs(np.asarray(supply) - np.asarray(demand))[known].max() < draw
    connection = site.grid_connection
    exchange = history["pcc", "active_power_kw"]
    assert exchange.max() <= connection.import_limit_kw
    assert exchange.min() >= -connection.export_limit_kw - 1e-6
    ess = site.ess()[0]
    soc, power = history[ess.id, "soc"], history[ess.id, "active_power_kw"]
    assert soc.min() >= ess.soc_min - 1e-9
    assert soc.max() <= ess.soc_max + 1e-9
    assert -ess.max_charge_kw <= power.min() <= power.max() <= ess.max_discharge_kw
    assert np.ptp(soc) > 0.5
    imported = np.diff(history["pcc", "import_energy_kwh"])
    assert imported == pytest.approx(np.maximum(exchange, 0)[:-1] / 4, abs=1e-6)


def test_the_storage_keeps_its_energy_balance(replayed: ReplayedSite) -> None:
    ess = replayed.site.ess()[0]
    history = wide(sample_history(replayed, START, START + timedelta(days=30)))
    soc, power = history[ess.id, "soc"], history[ess.id, "active_power_kw"]
    stored = np.diff(soc) * ess.energy_capacity_kwh * ess.soh
    flow = np.where(power < 0, -power * ess.charge_efficiency, -power / ess.discharge_efficiency)[:-1] / 4
    loss = ess.self_discharge_per_day / 96 * ess.energy_capacity_kwh
    assert (flow - stored).min() >= -loss
    assert (flow - stored).max() <= loss + 1e-6


def test_real_holes_stay_holes() -> None:
    site = sample_site("hybrid-park")
    replayed = ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))
    history = sample_history(replayed, START, END)
    missing = history.filter(pl.col("value").is_null())
    assert missing.height > 0
    assert missing["quality"].unique().to_list() == [3]
    assert set(missing["asset_id"]) <= {"wind-1", "wind-2", "wind-3", "wind-4"}


def test_prices_become_known_at_noon_of_the_day_before(replayed: ReplayedSite) -> None:
    zone = replayed.site.zone
    morning = datetime(2026, 11, 23, 11, 44, tzinfo=UTC)
    prices, known_at = sample_prices(replayed, START, morning)
    assert prices["time"].max() == datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
    assert known_at.max() <= morning  # pyright: ignore[reportOperatorIssue]
    prices, known_at = sample_prices(replayed, START, NOW)
    assert prices["time"].max() == datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
    assert prices.height == known_at.len()
    assert published_at(datetime(2026, 11, 24).date(), zone) == datetime(2026, 11, 23, 11, 45, tzinfo=UTC)  # noqa: DTZ001
    assert published_at(datetime(2026, 6, 2).date(), zone) == datetime(2026, 6, 1, 10, 45, tzinfo=UTC)  # noqa: DTZ001
    lead = prices["time"].to_numpy() - known_at.to_numpy()
    assert lead.min() >= np.timedelta64(11, "h")
    assert lead.max() <= np.timedelta64(36, "h")


@pytest.mark.requirement("energy.01.1")
def test_weather_is_stored_as_it_was_issued(replayed: ReplayedSite) -> None:
    weather = sample_weather(replayed, END - timedelta(days=5), NOW)
    assert weather["issued_at"].max() == END
    assert (weather["time"] >= weather["issued_at"]).all()
    truth = replayed.weather_actual(END - timedelta(days=5), END)
    near = weather.join(truth, on="time", suffix="_true")
    assert (near["temperature_2m_c"] - near["temperature_2m_c_true"]).abs().max() > 0.5  # pyright: ignore


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "HISTORY_DAYS", 10)


@pytest.mark.requirement("asset.04.1")
def test_import_is_complete_and_may_be_repeated(db: TenantStore, tmp_path: Path, short: None) -> None:
    settings = Settings(home=tmp_path, database_url=None, tenant="demo")
    site = sample_site("microgrid")
    steps: list[float] = []
    result = import_sample(db, settings, site, NOW, progress=lambda _step, share: steps.append(share))
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
    assert load_site(db, "microgrid") == site
    start = END - timedelta(days=10)
    raw = read_readings(db, "microgrid", start, END)
    assert raw.height <= result.readings
    assert raw["time"].max() == END - timedelta(minutes=15)
    clean = read_clean(db, "microgrid", start, END, [("load-1", "active_power_kw")])
    assert clean.height == 960
    assert read_prices(db, "microgrid", start, END, known_at=NOW).height == 240
    issued = read_weather_as_issued(db, "microgrid", start, END, 24)
    assert issued.height == 240
    assert (issued["time"] - issued["issued_at"]).min() >= timedelta(hours=24)  # pyright: ignore
    again = import_sample(db, settings, site, NOW + timedelta(days=3))
    assert again.skipped
    assert read_readings(db, "microgrid", start, END).equals(raw)


def test_a_failed_import_leaves_nothing(
    db: TenantStore, tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> pl.DataFrame:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(sample, "sample_weather", fail)
    settings = Settings(home=tmp_path, database_url=None, tenant="demo")
    with pytest.raises(RuntimeError, match="the disk is full"):
        import_sample(db, settings, sample_site("microgrid"), NOW)
    assert list_sites(db) == []


def test_a_site_that_is_no_sample_is_refused(db: TenantStore, tmp_path: Path) -> None:
    site = sample_site("microgrid").model_copy(update={"replay": None})
    settings = Settings(home=tmp_path, database_url=None, tenant="demo")
    with pytest.raises(ValueError, match="site microgrid has no replay section"):
        import_sample(db, settings, site, NOW)


def test_two_imports_at_once_do_not_wait_for_each_other(db: TenantStore, store_settings: Settings, short: None) -> None:
    finished: list[str] = []

    def the_other(step: str, _share: float) -> None:
        if step == "storing" and not finished:
            finished.append("microgrid")
            # All of the first import is written, and its transaction still open.
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(import_sample, db, store_settings, sample_site("hybrid-park"), NOW)
                assert other.result(timeout=60).readings > 0
            finished.append("hybrid-park")

    import_sample(db, store_settings, sample_site("microgrid"), NOW, progress=the_other)
    assert finished == ["microgrid", "hybrid-park"]
    assert list_sites(db) == ["hybrid-park", "microgrid"]

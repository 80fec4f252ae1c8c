"""The assets at work: a real store, real HTTP, real files, recorded by Dagster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_defs.chain import Progress, first_open_day, run_chain, steps, store_clean_from
from assets_defs.definitions import defs
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.sensors import (
    late_data_sensor,
    meter_file_sensor,
    range_tags,
    replan_sensor,
    stored_days_sensor,
)
from assets_defs.sites import SitesConfig
from flexergy_pipelines.quality import clean_period
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clean import read_clean, write_clean
from flexergy_pipelines.store.commands import request_replan
from flexergy_pipelines.store.energy import read_energy
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.weather import read_weather
from tests.ingestion.answers import Reply, as_json, open_meteo_body, prices_body, serving

TODAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
STORE = StoreResource(as_of=NOW.isoformat())


@pytest.fixture
def field(installation: Settings) -> Iterator[Settings]:
    """An installation whose weather and market services run."""

    def answer(query: dict[str, str]) -> Reply:
        if "area" in query:
            return as_json(prices_body(datetime.fromisoformat(query["start"]), 72, query["area"]))
        return as_json(open_meteo_body(NOW, int(query["past_hours"]), int(query["forecast_hours"])))

    with serving(answer) as service:
        publish_endpoints(installation, {"weather": service.url, "market": service.url})
        yield installation


def run(instance: dg.DagsterInstance, job: str, **options: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance, resources={"store": STORE, "models": ModelsResource()}, **options
    )  # fmt: skip


def ticked(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What a sensor asks for when the daemon looks at it."""
    context = dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), resources={"store": STORE}
    )
    return list(sensor.evaluate_tick(context).run_requests or [])


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    [event] = [e for e in result.get_asset_materialization_events() if e.materialization.asset_key.path[-1] == asset]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def readings(days: int) -> pl.DataFrame:
    """A point every quarter of an hour up to NOW."""
    count = days * 96
    return pl.DataFrame(
        {
            "asset_id": ["load-1"] * count,
            "quantity": ["active_power_kw"] * count,
            "time": pl.Series(
                [NOW - timedelta(minutes=15 * i) for i in range(1, count + 1)], dtype=pl.Datetime("us", "UTC")
            ),
            "value": [20.0 + i % 7 for i in range(count)],
            "quality": pl.Series([0] * count, dtype=pl.Int16),
        }
    )  # fmt: skip


@pytest.mark.requirement("energy.01.1")
def test_weather_and_prices_of_every_site_arrive_with_a_picture(
    instance: dg.DagsterInstance, field: Settings, db: TenantStore
) -> None:
    weather = metadata(run(instance, "weather"), "weather_forecast")
    assert weather["sites"] == 2
    assert "48 intervals from open_meteo" in weather["summary"]
    assert weather["preview_microgrid"].startswith("![Weather forecast](data:image/png;base64,")
    assert len(weather["preview_microgrid"]) < 60_000
    assert read_weather(db, "microgrid", NOW, NOW + timedelta(days=2)).height == 48
    prices = metadata(run(instance, "market"), "day_ahead_prices")
    assert "72 prices" in prices["summary"]


def test_days_are_cleansed_in_one_run_and_each_is_recorded(
    instance: dg.DagsterInstance, field: Settings, db: TenantStore
) -> None:
    write_readings(db, "microgrid", readings(4), "test")
    result = run(instance, "cleaning", tags=range_tags("2026-11-17", "2026-11-20"))
    assert instance.get_materialized_partitions(dg.AssetKey("clean_readings")) == {
        f"2026-11-{day}" for day in (17, 18, 19, 20)
    }
    assert result.success
    clean = read_clean(db, "microgrid", NOW - timedelta(days=3), NOW)
    assert clean.height == 3 * 96
    quality = metadata_of_last(result, "meter_quality")
    assert "microgrid: 1 points, mean coverage" in quality["summary"]
    energy = read_energy(db, "microgrid", NOW - timedelta(days=3), NOW)
    assert energy.height == 3 * 96
    assert energy["forward_kwh"].sum() == pytest.approx(clean["value"].sum() / 4, rel=1e-12)


def metadata_of_last(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    events = [e for e in result.get_asset_materialization_events() if e.materialization.asset_key.path[-1] == asset]
    return {name: value.value for name, value in events[-1].materialization.metadata.items()}


@pytest.mark.requirement("infra.02.1")
def test_a_dropped_file_starts_a_run_and_reopens_only_its_days(
    instance: dg.DagsterInstance, field: Settings, db: TenantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets_defs.sensors.QUIET", timedelta(0))
    assert ticked(meter_file_sensor, instance) == []
    folder = field.inbox_dir / "microgrid"
    folder.mkdir(parents=True)
    head = "meter,quantity,time,value\n"
    row = "load-meter,active_power_kw,2026-11-{day}T{hour}:30:00Z,5\n"
    # 23:30 UTC is already the next day in Amsterdam.
    path = folder / "late.csv"
    path.write_text(head + row.format(day=12, hour="23") + row.format(day=15, hour="10"))
    os.utime(path, (0, 0))
    [request] = ticked(meter_file_sensor, instance)
    result = run(instance, "meter_files", run_config=request.run_config)
    assert metadata(result, "raw_meter_readings")["rows_rejected"] == 0
    requests = ticked(late_data_sensor, instance)
    assert [r.partition_key for r in requests] == ["2026-11-13", "2026-11-15"]
    assert requests[0].run_config["ops"]["kpis"]["config"]["sites"] == ["microgrid"]


@pytest.mark.requirement("infra.02.1")
@pytest.mark.parametrize("source", ["control", "bulk"])
def test_one_late_reading_has_one_day_done_again_down_to_its_indicators(
    instance: dg.DagsterInstance, field: Settings, db: TenantStore, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr("assets_defs.sensors.QUIET", timedelta(0))
    write_readings(db, "microgrid", readings(4), source)
    run(instance, "cleaning", tags=range_tags("2026-11-16", "2026-11-19"))
    assert ticked(late_data_sensor, instance) == []
    late = readings(3).filter(pl.col("time") == datetime(2026, 11, 18, 3, 15, tzinfo=UTC))
    write_readings(db, "microgrid", late.with_columns(value=pl.lit(40.0)), source)
    [request] = ticked(late_data_sensor, instance)
    assert request.partition_key == "2026-11-18"
    result = run(instance, "late_data", run_config=request.run_config, partition_key=request.partition_key)
    materializations = result.get_asset_materialization_events()
    made = {(e.materialization.asset_key.path[-1], e.partition) for e in materializations}
    daily = {(name, "2026-11-18") for name in ("clean_readings", "meter_quality", "energy_15min", "kpis")}
    assert {one for one in made if one[0] != "period_kpis"} == daily
    assert metadata(result, "period_kpis")["summary"].endswith("of 2026-11")
    assert ticked(late_data_sensor, instance) == []


def test_days_of_an_imported_history_count_as_done_but_for_those_that_are_open(
    instance: dg.DagsterInstance, field: Settings, db: TenantStore
) -> None:
    write_readings(db, "microgrid", readings(5), "sample")
    clean_period(db, "microgrid", NOW - timedelta(days=5), NOW)
    write_readings(db, "microgrid", readings(2).tail(1).with_columns(value=pl.lit(3.0)), "late")

    def tick() -> Any:
        context = dg.build_sensor_context(
            instance=instance, repository_def=defs.get_repository_def(), resources={"store": STORE}
        )
        return stored_days_sensor.evaluate_tick(context)

    found = tick()
    days = {(e.asset_key.path[-1], e.partition) for e in found.asset_events}
    names = ("clean_readings", "meter_quality", "energy_15min")
    assert days == {(name, f"2026-11-{day}") for name in names for day in (16, 17, 19)}
    for event in found.asset_events:
        instance.report_runless_asset_event(event)
    assert tick().skip_message == "every day in the store is known"


@pytest.mark.requirement("energy.04.4")
def test_a_wish_for_a_new_plan_starts_one_run_for_that_site(
    instance: dg.DagsterInstance, installation: Settings, db: TenantStore
) -> None:
    assert ticked(replan_sensor, instance) == []
    request_replan(db, "microgrid", "load is 30 kW above plan")
    [first] = ticked(replan_sensor, instance)
    [second] = ticked(replan_sensor, instance)
    assert first.run_key == second.run_key
    assert first.run_config["ops"]["intraday_plan"]["config"] == {"sites": ["microgrid"]}


def test_schedules_start_runs_for_the_sites_that_are_due(installation: Settings) -> None:
    schedule, repository = defs.resolve_schedule_def("day_ahead_schedule"), defs.get_repository_def()
    midnight = datetime(2026, 11, 19, 23, tzinfo=UTC)
    with dg.build_schedule_context(
        resources={"store": STORE}, scheduled_execution_time=midnight, repository_def=repository
    ) as context:
        data = schedule.evaluate_tick(context)
    assert data.run_requests is not None
    [request] = data.run_requests
    assert request.partition_key == "2026-11-20"
    assert request.run_config["ops"]["day_ahead_plan"]["config"]["sites"] == ["hybrid-park", "microgrid"]
    with dg.build_schedule_context(
        resources={"store": STORE},
        scheduled_execution_time=midnight + timedelta(minutes=15),
        repository_def=repository,
    ) as context:
        assert schedule.evaluate_tick(context).skip_message == "no site is due at 23:15 UTC"


class _Fake:
    """Jobs of the chain's names that do nothing, but for those that fail."""

    def __init__(self, failing: str = "") -> None:
        self.ran: list[str] = []
        assets = {
            "weather": ["weather_forecast"], "market": ["day_ahead_prices"], "meter_files": ["raw_meter_readings"],
            "cleaning": ["clean_readings", "meter_quality", "energy_15min"], "training": ["forecast_models"],
            "forecasting": ["forecasts"], "day_ahead": ["day_ahead_plan"], "intraday": ["intraday_plan"],
            "dispatch": ["dispatch_status"], "accounting": ["kpis", "period_kpis", "plan_value"],
        }  # fmt: skip
        daily = {"clean_readings", "meter_quality", "energy_15min", "day_ahead_plan", "kpis", "plan_value"}
        made = [self._asset(name, name in daily, name == failing) for names in assets.values() for name in names]
        jobs = [dg.define_asset_job(job, names) for job, names in assets.items()]
        self.defs = dg.Definitions(assets=made, jobs=jobs)

    def _asset(self, name: str, daily: bool, fails: bool) -> dg.AssetsDefinition:
        from assets_defs.assets.forecasts import TrainingConfig
        from assets_defs.partitions import daily_asset

        def work(context: Any, config: Any) -> dg.MaterializeResult:
            self.ran.append(name)
            if fails:
                raise dg.Failure(f"{name} broke", allow_retries=False)
            return dg.MaterializeResult(metadata={"summary": f"{name} is fine"})

        config = TrainingConfig if name == "forecast_models" else SitesConfig
        work.__annotations__ = {"context": dg.AssetExecutionContext, "config": config, "return": dg.MaterializeResult}
        return daily_asset(name=name)(work) if daily else dg.asset(name=name)(work)


def test_the_chain_goes_on_after_a_failed_step_and_says_so(
    instance: dg.DagsterInstance, installation: Settings
) -> None:
    fake, rows = _Fake("forecasts"), list[Progress]()
    good = run_chain(instance, [], rows.append, defs=fake.defs, store=STORE)
    assert not good
    ended = {row.step: row for row in rows if row.status != "started"}
    assert [step for step, row in ended.items() if row.status == "failed"] == ["forecasts"]
    assert ended["forecasts"].detail == "forecasts broke"
    assert ended["kpis"].detail == "kpis is fine; period_kpis is fine; plan_value is fine"
    assert set(fake.ran[-3:]) == {"kpis", "period_kpis", "plan_value"}
    assert [row.step for row in rows if row.status == "started"] == list(ended)


def test_the_chain_only_cleanses_what_the_store_does_not_hold_clean(
    instance: dg.DagsterInstance, installation: Settings, db: TenantStore
) -> None:
    assert store_clean_from(STORE, []) == date.min
    for site_id, hours in (("microgrid", 3), ("hybrid-park", 30)):
        newest = NOW - timedelta(hours=hours)
        frame = pl.DataFrame({"asset_id": ["pcc"], "quantity": ["active_power_kw"], "time": [newest], "value": [1.0]})
        write_clean(db, site_id, frame.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))))
    assert store_clean_from(STORE, []) == date(2026, 11, 19)
    assert store_clean_from(STORE, ["microgrid"]) == TODAY
    found = {step.name: step for step in steps(instance, STORE, [], TODAY, None)}
    assert found["cleansing"].tags == range_tags("2026-11-19", "2026-11-20")
    assert found["kpis"].tags == range_tags("2026-11-13", "2026-11-19")
    wide = {step.name: step for step in steps(instance, STORE, [], TODAY, 30)}
    assert wide["cleansing"].tags == range_tags("2026-10-22", "2026-11-20")


def test_days_that_are_done_are_not_done_again(instance: dg.DagsterInstance) -> None:
    for day in ("2026-11-18", "2026-11-19"):
        instance.report_runless_asset_event(dg.AssetMaterialization("kpis", partition=day))
    assert first_open_day(instance, "kpis", date(2026, 11, 19), 2) == date(2026, 11, 19)
    assert first_open_day(instance, "kpis", date(2026, 11, 20), 2) == date(2026, 11, 20)
    assert first_open_day(instance, "kpis", date(2026, 11, 20), 4) == date(2026, 11, 17)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--once", "--site", "atlantis"], "site 'atlantis' is unknown; known: hybrid-park, microgrid"),
        (["run", "--backfill-days", "0"], "--backfill-days"),
        (["instance", "--port", "70000"], "--port"),
    ],
)
def test_bad_words_on_the_command_line_exit_with_2(installation: Settings, words: list[str], message: str) -> None:
    from typer.testing import CliRunner

    from assets_defs.cli import app

    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_instance_is_written_for_this_database_and_prints_its_processes(installation: Settings) -> None:
    import yaml
    from typer.testing import CliRunner

    from assets_defs.cli import app

    result = CliRunner().invoke(app, ["instance", "--port", "3456"])
    assert result.exit_code == 0
    commands = json.loads(result.stdout)
    assert list(commands) == ["code_server", "webserver", "daemon"]
    assert commands["webserver"][commands["webserver"].index("--port") + 1] == "3456"
    home = installation.dagster_home
    config = yaml.safe_load((home / "dagster.yaml").read_text())
    assert config["storage"]["postgres"]["postgres_url"].startswith("postgresql+psycopg2://")
    assert config["telemetry"] == {"enabled": False}
    assert (home / "dagster.yaml").stat().st_mode & 0o077 == 0
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert opened.get_runs(limit=1) == []
        assert not opened.telemetry_enabled


@pytest.mark.requirement("infra.02.3")
def test_bulk_reading_tells_how_well_it_went_even_when_every_meter_is_dead(
    instance: dg.DagsterInstance, installation: Settings, db: TenantStore
) -> None:
    from assets_defs.assets.metering import BulkConfig
    from flexergy_pipelines.store.bulk import BulkJob, reading_statistics, save_bulk_job

    save_bulk_job(db, BulkJob("microgrid", "quick", attempts=1, timeout_s=0.2), actor="ann")
    config = dg.RunConfig(ops={"bulk_meter_readings": BulkConfig(sites=["microgrid"])})
    publish_endpoints(installation, {"microgrid/pcc-meter": "127.0.0.1:9", "microgrid/load-meter": "127.0.0.1:9"})
    result = run(instance, "bulk_reading", run_config=config)
    found = metadata(result, "bulk_meter_readings")
    assert found["summary"] == "microgrid: 0 of 2 meters, 0 readings"
    assert "| quick | none | 2 | 0.0% | 0.0% |  | 2 |" in found["preview_microgrid"]
    assert "**load-meter**: load-meter: no " in found["preview_microgrid"]
    statistics = reading_statistics(db, "microgrid", NOW, NOW + timedelta(seconds=1))
    assert statistics.select("meter", "reads", "success_rate").rows() == [("load-meter", 1, 0.0), ("pcc-meter", 1, 0.0)]


@pytest.mark.requirement("asset.04.2", "infra.02.2")
def test_each_job_of_bulk_reading_is_done_at_the_period_its_operator_set(
    installation: Settings, db: TenantStore
) -> None:
    from flexergy_pipelines.store.bulk import BulkJob, save_bulk_job

    save_bulk_job(db, BulkJob("microgrid", "profiles", ("load-meter",), ("profile",), 15), actor="ann")
    save_bulk_job(db, BulkJob("microgrid", "all", period_minutes=60), actor="ann")
    save_bulk_job(db, BulkJob("microgrid", "off", period_minutes=5, enabled=False), actor="ann")
    schedule, repository = defs.resolve_schedule_def("bulk_reading_schedule"), defs.get_repository_def()

    def due(minute: int) -> dict[str, list[str]]:
        with dg.build_schedule_context(
            resources={"store": STORE},
            scheduled_execution_time=NOW + timedelta(minutes=minute),
            repository_def=repository,
        ) as context:
            requests = schedule.evaluate_tick(context).run_requests or []
        configs = [request.run_config["ops"]["bulk_meter_readings"]["config"] for request in requests]
        return {site: config["jobs"] for config in configs for site in config["sites"]}

    assert due(0) == {"hybrid-park": ["hourly"], "microgrid": ["all", "profiles"]}
    assert due(5) == {}
    assert due(15) == {"microgrid": ["profiles"]}

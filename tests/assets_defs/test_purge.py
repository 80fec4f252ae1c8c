"""Old runs go; what says which days are done stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from assets_defs.definitions import defs
from assets_defs.partitions import daily_partitions
from assets_defs.purge import purge_runs
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.readings import read_readings, write_readings
from flexergy_pipelines.store.sites import load_site, save_site

DAYS = daily_partitions("Europe/Amsterdam", datetime(2026, 1, 1, tzinfo=UTC).date())


@dg.asset(partitions_def=DAYS)
def daily() -> None: ...


@dg.asset
def hourly() -> None: ...


def test_finished_runs_go_and_each_days_newest_record_stays(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        dg.materialize([hourly], instance=instance)
    for day in ("2026-03-01", "2026-03-01", "2026-03-02"):
        dg.materialize([daily], instance=instance, partition_key=day)
    deleted, kept = purge_runs(instance, datetime.now(UTC) + timedelta(hours=1))
    assert (deleted, kept) == (4, 2)
    assert instance.get_materialized_partitions(dg.AssetKey("daily")) == {"2026-03-01", "2026-03-02"}


def test_young_runs_stay(instance: dg.DagsterInstance) -> None:
    dg.materialize([hourly], instance=instance)
    assert purge_runs(instance, datetime.now(UTC) - timedelta(days=14)) == (0, 0)
    assert len(instance.get_runs()) == 1


def test_a_young_record_of_a_day_makes_the_old_one_superfluous(instance: dg.DagsterInstance) -> None:
    dg.materialize([daily], instance=instance, partition_key="2026-03-01")
    between = datetime.now(UTC)
    dg.materialize([daily], instance=instance, partition_key="2026-03-01")
    assert purge_runs(instance, between) == (1, 0)


@pytest.mark.requirement("asset.04.4")
def test_the_nightly_job_deletes_history_beyond_each_sites_retention(
    instance: dg.DagsterInstance, installation: Settings, db: TenantStore
) -> None:
    site = load_site(db, "microgrid")
    save_site(db, site.model_copy(update={"history": site.history.model_copy(update={"retention_days": 30})}))
    now = datetime.now(UTC)
    times = [now - timedelta(days=100), now - timedelta(days=1)]
    for site_id in ("microgrid", "hybrid-park"):
        frame = pl.DataFrame({"asset_id": "pcc", "quantity": "active_power_kw", "time": times, "value": [1.0, 2.0]})
        write_readings(db, site_id, frame.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))), "test")
    assert defs.resolve_job_def("purge").execute_in_process(instance=instance).success
    left = {
        site_id: read_readings(db, site_id, now - timedelta(days=200), now)["value"].to_list()
        for site_id in ("microgrid", "hybrid-park")
    }
    assert left == {"microgrid": [2.0], "hybrid-park": [1.0, 2.0]}

"""Old runs go; what says which days are done stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from assets_defs.partitions import daily_partitions
from assets_defs.purge import purge_runs

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

"""Housekeeping: what is too old goes.

Of old runs each leaves some 23 kB in the database, and Dagster never deletes one by itself.

Which days of a partitioned asset are done is known from the events of its runs, so the newest successful run of each
day stays.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from assets_defs.resources import StoreResource

_BATCH = 100
_PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


class PurgeConfig(dg.Config):
    """How long finished runs are kept."""

    keep_days: int = Field(default=14, ge=1, description="Age from which runs are deleted, in days.")


def purge_runs(instance: dg.DagsterInstance, older_than: datetime) -> tuple[int, int]:
    """Delete finished runs created before `older_than`.

    Parameters
    ----------
    instance : DagsterInstance
        Whose runs.
    older_than : datetime
        Aware.

    Returns
    -------
    int, int
        Runs deleted, and old runs kept because a day's record hangs on them.
    """
    covered: set[tuple[str, ...]] = set()
    for run in _runs(instance, dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], created_after=older_than)):
        covered.add(_day_of(run))
    deleted = kept = 0
    doomed: list[str] = []
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    for run in _runs(instance, dg.RunsFilter(statuses=finished, created_before=older_than)):
        day = _day_of(run)
        if run.status == dg.DagsterRunStatus.SUCCESS and len(day) > 1 and day not in covered:
            covered.add(day)
            kept += 1
            continue
        doomed.append(run.run_id)
    for run_id in doomed:
        instance.delete_run(run_id)
        deleted += 1
    return deleted, kept


def _runs(instance: dg.DagsterInstance, wanted: dg.RunsFilter) -> Iterator[dg.DagsterRun]:
    """Newest first, in pieces."""
    cursor: str | None = None
    while runs := instance.get_runs(wanted, cursor=cursor, limit=_BATCH):
        yield from runs
        cursor = runs[-1].run_id


def _day_of(run: dg.DagsterRun) -> tuple[str, ...]:
    """Job and partitions of a run; only the job's name when it has none."""
    return (run.job_name, *(run.tags[tag] for tag in _PARTITION_TAGS if tag in run.tags))


@dg.op(description="Delete runs that are older than the limit; the newest run of each day's partition stays.")
def delete_old_runs(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
    limit = datetime.now(UTC) - timedelta(days=config.keep_days)
    deleted, kept = purge_runs(context.instance, limit)
    context.log.info(f"{deleted} runs older than {config.keep_days} days deleted, {kept} kept as a day's record")
    context.add_output_metadata({"deleted": deleted, "kept": kept})


@dg.op(description="Delete history that is older than each site's configuration keeps.")
def apply_history_retention(context: dg.OpExecutionContext, store: StoreResource) -> None:
    from flexergy_pipelines.store.retention import apply_retention
    from flexergy_pipelines.store.sites import list_sites

    db, now = store.db(), store.now()
    failures: list[str] = []
    for site_id in list_sites(db):
        try:
            result = apply_retention(db, site_id, now)
        except Exception as error:  # one site's trouble must not keep the others' history for ever
            context.log.error(f"{site_id} failed: {error}", exc_info=True)
            failures.append(f"{site_id}: {error}")
            continue
        context.log.info(f"{site_id}: {result.deleted or 'nothing is too old'}")
        context.add_output_metadata({site_id.replace("-", "_"): sum(result.deleted.values())})
    if failures:
        raise dg.Failure("; ".join(failures))


@dg.job(
    description="Housekeeping: Dagster's old runs, and the sites' history beyond its retention.",
    executor_def=dg.in_process_executor,
)
def purge() -> None:
    delete_old_runs()
    apply_history_retention()

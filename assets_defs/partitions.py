"""Time is the partition: one for each local day of the sites."""

import os
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

ZONE_VARIABLE = "FLEXERGY_TIME_ZONE"
DEFAULT_ZONE = "Europe/Amsterdam"


FIRST_DAY = date(datetime.now(UTC).year - 1, 1, 1)
"""First partition: 1 January of last year."""


def installation_zone() -> str:
    """Zone in which a new day's partition appears; with sites in several zones, the easternmost."""
    return os.environ.get(ZONE_VARIABLE) or DEFAULT_ZONE


def daily_partitions(time_zone: str, first_day: date | None = None) -> dg.DailyPartitionsDefinition:
    """Days from `first_day` (1 January of last year) up to and with today."""
    first = first_day or FIRST_DAY
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone=time_zone, end_offset=1)


def days_of(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """First and last day the run works on."""
    span = context.partition_key_range
    return date.fromisoformat(span.start), date.fromisoformat(span.end)


def local_span(first: date, last: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The days `first` to `last` of a site as an interval in UTC; a day has 23, 24 or 25 hours."""
    start = datetime(first.year, first.month, first.day, tzinfo=zone)
    after = last + timedelta(days=1)
    return start.astimezone(UTC), datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(UTC)


def each_day(first: date, last: date) -> Iterator[date]:
    """All days from `first` to `last`, both included."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


DAYS = daily_partitions(installation_zone())
"""The partitions of every daily asset."""


def daily_asset(**settings: Any) -> Any:
    """`dagster.asset` for a daily asset: whatever span of days is asked for is worked through in one run.

    Parameters
    ----------
    **settings
        As for `dagster.asset`.
    """
    with warnings.catch_warnings():
        # Dagster calls the policy a beta feature each time it is used; the version is pinned and tested.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), **settings)

"""The store measured: ingest against a bare COPY into the same table, a year of reading against a bare COPY out of it.

The bare operations are done by the superuser with ready-made bytes: no validation, no tenancy, no frame.
Run from the root of the repository: ``python -m benchmarks.data``.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psycopg

from flexergy_pipelines.kpis.accounting import local_day
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import EmbeddedServer, Store, TenantStore, open_store, start_embedded
from flexergy_pipelines.store.clean import read_clean, write_clean
from flexergy_pipelines.store.copying import binary_rows
from flexergy_pipelines.store.embedded import SUPERUSER
from flexergy_pipelines.store.readings import read_readings, write_readings
from flexergy_pipelines.store.sites import register_site

POINTS = 100
START = datetime(2025, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
ROUNDS = 3
_FIELDS = {
    "tenant_id": "int4",
    "point_id": "int4",
    "time": "timestamptz",
    "value": "float8",
    "quality": "int2",
    "source_id": "int2",
}
_COPY_IN = "COPY readings (tenant_id, point_id, time, value, quality, source_id) FROM STDIN (FORMAT binary)"
_COPY_OUT = "COPY (SELECT point_id, time, value, quality FROM readings) TO STDOUT (FORMAT binary)"


def year_of_readings(points: int) -> pl.DataFrame:
    """A year at 15 minutes of `points` points, with a gap now and then."""
    times = pl.datetime_range(START, START + YEAR, "15m", closed="left", eager=True, time_unit="us", time_zone="UTC")
    random = np.random.default_rng(1)
    names = pl.DataFrame({"asset_id": [f"a{k}" for k in range(points)], "quantity": ["active_power_kw"] * points})
    values = pl.Series("value", random.normal(100, 30, points * len(times)))
    return (
        names.join(pl.DataFrame({"time": times}), how="cross")
        .with_columns(pl.when(random.random(len(values)) > 0.01).then(values).alias("value"))
        .with_columns(quality=pl.when(pl.col("value").is_null()).then(3).otherwise(0).cast(pl.Int16))
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_in(admin: psycopg.Connection, body: bytes) -> None:
    with admin.cursor() as cursor, cursor.copy(_COPY_IN) as copy:
        for at in range(0, len(body), 1 << 20):
            copy.write(body[at : at + (1 << 20)])
    admin.commit()


def bare_out(admin: psycopg.Connection) -> int:
    with admin.cursor() as cursor, cursor.copy(_COPY_OUT) as copy:
        size = sum(len(block) for block in copy)
    admin.commit()
    return size


def prepared(store: Store) -> tuple[TenantStore, pl.DataFrame, bytes]:
    """A site with its points, a year of readings, and the same year as the bytes of a bare COPY."""
    store.migrate()
    store.create_tenant("bench")
    db = store.tenant("bench")
    frame = year_of_readings(POINTS)
    points = [(f"a{k}", "active_power_kw", "kW") for k in range(POINTS)]
    register_site(db, "bench", name="bench", kind="microgrid", config={}, points=points)
    with db.begin() as connection:
        connection.exec_driver_sql("SELECT ensure_month_partitions(%s, %s)", (START, START + YEAR))
        ids = {row[0]: row[1] for row in connection.exec_driver_sql("SELECT asset_id, point_id FROM points")}
    coded = frame.with_columns(
        pl.lit(db.tenant_id, dtype=pl.Int32).alias("tenant_id"),
        pl.col("asset_id").replace_strict(ids, return_dtype=pl.Int32).alias("point_id"),
        pl.lit(1, dtype=pl.Int16).alias("source_id"),
    )
    return db, frame, binary_rows(coded, _FIELDS)


def measure(server: EmbeddedServer, store: Store) -> dict[str, list[float]]:
    """Seconds of each operation, round by round."""
    db, frame, body = prepared(store)
    day = frame.filter(pl.col("time") >= START + YEAR - timedelta(days=1))
    end = START + YEAR
    found: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        found.setdefault(name, []).append(seconds(work))

    with psycopg.connect(server.url("flexergy", user=SUPERUSER, driver=None)) as admin:
        for _ in range(ROUNDS):
            admin.execute("TRUNCATE readings, clean_readings, reading_corrections")
            admin.commit()
            note("bare COPY in", lambda: bare_in(admin, body))
            admin.execute("TRUNCATE readings")
            admin.commit()
            note("ingest", lambda: write_readings(db, "bench", frame, "bench"))
            note("ingest the same again", lambda: write_readings(db, "bench", frame, "bench"))
            note("ingest one day again", lambda: write_readings(db, "bench", day, "bench"))
            note("bare COPY out", lambda: bare_out(admin))
            note("read a year", lambda: read_readings(db, "bench", START, end))
            note("read a year as hourly means", lambda: read_readings(db, "bench", START, end, step="1h"))
            note("write a clean year", lambda: write_clean(db, "bench", frame.drop("quality")))
            note("read a clean year", lambda: read_clean(db, "bench", START, end))
    return found


def late_day(settings: Settings, store: Store) -> dict[str, float]:
    """Seconds to do again what one late reading changes, and what a month of days takes, on the sample microgrid."""
    from flexergy_pipelines.grid.samples import sample_site
    from flexergy_pipelines.kpis import account_day
    from flexergy_pipelines.metering import energy_of_site
    from flexergy_pipelines.quality import clean_period
    from flexergy_pipelines.store.open_days import open_days
    from flexergy_pipelines.store.sample import import_sample

    db, now = store.tenant("bench"), datetime.now(UTC)
    site = sample_site("microgrid")
    import_sample(db, settings, site, now)
    today = now.astimezone(site.zone).date()
    day = today - timedelta(days=40)

    def again(first: date, last: date) -> None:
        start, _ = local_day(first, site.zone)
        _, end = local_day(last, site.zone)
        clean_period(db, site.id, start, end)
        energy_of_site(db, site.id, start, end)
        for number in range((last - first).days + 1):
            account_day(db, site.id, first + timedelta(days=number), now)

    at = local_day(day, site.zone)[0] + timedelta(hours=9, minutes=15)
    late = pl.DataFrame({"asset_id": ["load-1"], "quantity": ["active_power_kw"], "time": [at], "value": [77.0]})
    found = {"one late reading stored": seconds(lambda: write_readings(db, site.id, late, "late"))}
    marked = [one.day for one in open_days(db) if one.site_id == site.id and one.day < today]
    if marked != [day]:
        raise AssertionError(f"one late reading of {day} re-opened {marked}")
    found["its day done again"] = seconds(lambda: again(day, day))
    if any(one.day == day for one in open_days(db)):
        raise AssertionError(f"{day} is still open after it was done again")
    found["all days of a month done again"] = seconds(lambda: again(day - timedelta(days=29), day))
    return found


def main() -> None:
    """Print medians, rates, and the ratios that are asked for (ingest and read: at least 0.5 of the bare operation)."""
    home = Path(tempfile.mkdtemp(prefix="flexergy-bench-"))
    settings = Settings(home=home, database_url=None, tenant="bench")
    server = start_embedded(settings)
    try:
        with open_store(settings) as store:
            found = {name: statistics.median(times) for name, times in measure(server, store).items()}
            late = late_day(settings, store)
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
    rows = POINTS * int(YEAR / timedelta(minutes=15))
    for name, duration in found.items():
        count = rows / 365 if "one day" in name else rows
        print(f"{name:<30}{duration:>8.2f} s {count / duration / 1e3:>8.0f} k rows/s")
    print(f"ingest / bare COPY in  {found['bare COPY in'] / found['ingest']:.2f}")
    print(f"read / bare COPY out   {found['bare COPY out'] / found['read a year']:.2f}")
    for name, duration in late.items():
        print(f"{name:<32}{duration:>8.3f} s")


if __name__ == "__main__":
    main()

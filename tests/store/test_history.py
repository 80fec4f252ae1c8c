"""How long history is kept, and many writers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid import History, HistoryRule, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms, raise_alarm
from flexergy_pipelines.store.clean import read_clean, write_clean
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.forecasts import ForecastRun, list_forecast_runs, write_forecast
from flexergy_pipelines.store.live import read_live, write_live
from flexergy_pipelines.store.plans import PlanRecord, list_plans, write_plan
from flexergy_pipelines.store.readings import read_readings, write_readings
from flexergy_pipelines.store.retention import apply_retention
from flexergy_pipelines.store.setpoints import read_setpoints, write_setpoints
from flexergy_pipelines.store.sites import save_site
from tests.support.store import plain_site

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def days(asset: str, quantity: str, count: int) -> pl.DataFrame:
    times = [NOW - k * DAY for k in range(count)]
    frame = pl.DataFrame({"time": times, "value": [1.0] * count}, schema_overrides={"time": pl.Datetime("us", "UTC")})
    return frame.with_columns(asset_id=pl.lit(asset), quantity=pl.lit(quantity))


@pytest.mark.requirement("asset.04.4")
def test_each_point_is_kept_as_long_as_its_configuration_says(db: TenantStore, other_db: TenantStore) -> None:
    rules = (HistoryRule(quantity="frequency_hz", retention_days=3), HistoryRule(quantity="soc", retention_days=30))
    raw = site_to_dict(sample_site("microgrid"))
    raw["history"] = History(retention_days=10, rules=rules).model_dump(mode="json", exclude_none=True)
    site = parse_site(raw)
    frame = pl.concat([days("pcc", "frequency_hz", 40), days("ess-1", "soc", 40), days("pv-1", "active_power_kw", 40)])
    for tenant in (db, other_db):
        save_site(tenant, site)
        write_readings(tenant, site.id, frame, "test")
        write_clean(tenant, site.id, frame.filter(pl.col("asset_id") == "pv-1"))
    for age in (5, 20):
        at = NOW - age * DAY
        write_forecast(
            db,
            ForecastRun(site.id, "pv-1", "active_power_kw", at, "m"),
            pl.DataFrame({"time": [at], "value": [1.0]}),
        )
        values = days("ess-1", "active_power_kw", 1).with_columns(
            pl.lit(at).cast(pl.Datetime("us", "UTC")).alias("time")
        )
        plan = write_plan(db, PlanRecord(site.id, "intraday", at, at, at + DAY, 15, "optimal"), values)
        write_setpoints(db, site.id, values.drop("value").with_columns(status=pl.lit("ok"), plan_id=pl.lit(plan)))
    result = apply_retention(db, site.id, NOW)
    kept = read_readings(db, site.id, LONG_AGO, NOW + DAY).group_by("quantity").len()
    assert dict(kept.iter_rows()) == {"frequency_hz": 4, "soc": 31, "active_power_kw": 11}
    assert read_clean(db, site.id, LONG_AGO, NOW + DAY).height == 11
    assert (list_forecast_runs(db, site.id).height, len(list_plans(db, site.id))) == (1, 1)
    assert read_setpoints(db, site.id, LONG_AGO, NOW).height == 1
    assert result.deleted == {
        "readings": 36 + 9 + 29,
        "clean_readings": 29,
        "setpoints": 1,
        "forecast_runs": 1,
        "plans": 1,
    }
    assert apply_retention(db, site.id, NOW).deleted == {}
    assert read_readings(other_db, site.id, LONG_AGO, NOW + DAY).height == 120
    log = list_events(db, datetime.now(UTC) - DAY, datetime.now(UTC) + DAY, kind="history_deleted")
    assert log.height == 1


def test_many_writers_at_once_lose_nothing_and_do_not_deadlock(db: TenantStore) -> None:
    points = [(f"a{k}", "q") for k in range(12)]
    site = plain_site(db, "s1", points)

    def write(number: int) -> None:
        order = points if number % 2 else points[::-1]
        frame = pl.concat([days(*point, 30).with_columns(value=pl.lit(float(number))) for point in order])
        write_readings(db, site, frame, f"writer {number}")
        write_clean(db, site, frame)
        live = frame.filter(pl.col("time") == NOW).with_columns(quality=pl.lit(0))
        write_live(db, site, live)
        raise_alarm(db, site, "busy", 3, f"writer {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    stored = read_readings(db, site, LONG_AGO, NOW + DAY)
    assert stored.height == 12 * 30
    assert stored["value"].n_unique() == 1
    with db.begin() as connection:
        corrected = connection.exec_driver_sql("SELECT count(*) FROM reading_corrections").scalar_one()
    assert corrected == 15 * 12 * 30
    assert read_clean(db, site, LONG_AGO, NOW + DAY).height == 12 * 30
    assert read_live(db, site).height == 12
    assert list_alarms(db, site)["count"].to_list() == [16]


def test_a_month_that_another_writer_just_made_is_used(db: TenantStore) -> None:
    """The second writer looked, waited for the first one, and must look again."""
    months = "SELECT ensure_month_partitions('1999-05-01Z', '1999-08-01Z')"

    def second() -> int:
        with db.begin() as connection:
            return connection.exec_driver_sql(months).scalar_one()

    with ThreadPoolExecutor(1) as pool:
        with db.begin() as connection:
            assert connection.exec_driver_sql(months).scalar_one() == 12
            made = pool.submit(second)
            with db.begin() as observer:
                waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                while not observer.exec_driver_sql(waiting).scalar_one():
                    assert not made.done(), made.result()
        assert made.result() == 0

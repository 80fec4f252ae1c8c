"""Readings in and out: what was written is what is read, whatever the order, the repeats and the mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from flexergy_pipelines.store import InvalidDataError, NotFoundError, TenantStore
from flexergy_pipelines.store.readings import (
    BAD,
    ESTIMATED,
    GOOD,
    MISSING,
    latest_reading_time,
    read_corrections,
    read_readings,
    write_readings,
)
from tests.support.store import plain_site

T0 = datetime(2026, 3, 28, 23, tzinfo=UTC)
_numbers = count()
PV = ("pv-1", "active_power_kw")
LOAD = ("load-1", "active_power_kw")


def frame(
    rows: Sequence[tuple[tuple[str, str], int, float | None, int]], start: datetime = T0, minutes: int = 15
) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (asset, quantity, start + k * timedelta(minutes=minutes), value, q)
            for (asset, quantity), k, value, q in rows
        ],
        schema={
            "asset_id": pl.String,
            "quantity": pl.String,
            "time": pl.Datetime("us", "UTC"),
            "value": pl.Float64,
            "quality": pl.Int16,
        },
        orient="row",
    )


@pytest.fixture
def site(db: TenantStore) -> str:
    return plain_site(db, "s1", [PV, LOAD])


def everything(db: TenantStore, site: str) -> pl.DataFrame:
    return read_readings(db, site, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.mark.requirement("asset.04.1")
def test_what_was_written_is_read_back_with_null_kept_apart_from_zero(db: TenantStore, site: str) -> None:
    written = frame([(LOAD, 0, 5.25, GOOD), (LOAD, 1, None, MISSING), (PV, 0, 0.0, GOOD), (PV, 1, -1e-9, BAD)])
    result = write_readings(db, site, written, "test")
    assert (result.rows_in, result.written, result.changed) == (4, 4, 0)
    assert_frame_equal(everything(db, site), written)
    assert_frame_equal(read_readings(db, site, T0, T0 + timedelta(minutes=15), [PV]), written[2:3])


def test_a_frame_of_many_months_is_read_back_in_order(db: TenantStore, site: str) -> None:
    rows = [(point, k, float(k % 97), GOOD) for point in (LOAD, PV) for k in range(20_000)]
    long = frame(rows, start=datetime(2025, 11, 3, 7, 30, tzinfo=UTC))
    assert write_readings(db, site, long.sample(fraction=1.0, shuffle=True, seed=1), "test").written == 40_000
    assert_frame_equal(everything(db, site), long)
    assert write_readings(db, site, long, "again").written == 0


batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from([PV, LOAD]), st.integers(0, 8), st.floats(-5, 5) | st.none()),
        max_size=6,
    ),
    max_size=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=batches, order=st.randoms(use_true_random=False))
def test_ingest_in_any_order_and_with_repeats_gives_the_same_table(
    db: TenantStore, site: str, batches: list, order
) -> None:
    """Batches whose values depend only on point and time, as meters deliver them late, twice and shuffled."""
    value_of: dict = {}
    consistent = [[(p, k, value_of.setdefault((p, k), v)) for p, k, v in batch] for batch in batches]
    sites = []
    for number in range(2):
        name = plain_site(db, f"{site}-{next(_numbers)}", [PV, LOAD])
        todo = [batch for batch in consistent for _ in range(number + 1)]
        order.shuffle(todo)
        for batch in todo:
            rows = [(p, k, v, GOOD if v is not None else MISSING) for p, k, v in batch]
            assert write_readings(db, name, frame(rows), "test").changed == 0
        sites.append(everything(db, name))
    assert_frame_equal(sites[0], sites[1])
    assert sites[0].height == len(value_of)


def test_a_correction_replaces_the_value_and_keeps_the_old_one(db: TenantStore, site: str) -> None:
    write_readings(db, site, frame([(PV, 0, 1.0, GOOD), (PV, 1, 2.0, GOOD)]), "meter")
    result = write_readings(db, site, frame([(PV, 0, 1.0, GOOD), (PV, 1, 2.5, GOOD), (PV, 2, 3.0, GOOD)]), "office")
    assert (result.written, result.changed) == (2, 1)
    assert everything(db, site)["value"].to_list() == [1.0, 2.5, 3.0]
    kept = read_corrections(db, site, T0, T0 + timedelta(hours=1)).row(0, named=True)
    assert (kept["old_value"], kept["old_source"], kept["new_source"]) == (2.0, "meter", "office")
    write_readings(db, site, frame([(PV, 1, None, MISSING)]), "office")
    assert read_corrections(db, site, T0, T0 + timedelta(hours=1))["old_value"].to_list() == [2.0, 2.5]


def test_the_last_of_two_values_for_one_instant_in_a_frame_holds(db: TenantStore, site: str) -> None:
    write_readings(db, site, frame([(PV, 0, 1.0, GOOD), (PV, 0, 2.0, GOOD)]), "test")
    assert everything(db, site)["value"].to_list() == [2.0]


def test_means_use_good_values_only_and_show_every_interval(db: TenantStore, site: str) -> None:
    rows = [(PV, 0, 4.0, GOOD), (PV, 1, 8.0, ESTIMATED), (PV, 2, 99.0, BAD), (PV, 8, 7.0, BAD), (PV, 9, None, MISSING)]
    write_readings(db, site, frame(rows), "test")
    hours = read_readings(db, site, T0, T0 + timedelta(hours=4), [PV], step="1h")
    assert hours["value"].to_list() == [6.0, None, None, None]
    assert hours["quality"].to_list() == [ESTIMATED, MISSING, MISSING, MISSING]


def test_a_burst_of_values_beyond_a_dead_band_weighs_only_as_long_as_it_lasted(db: TenantStore, site: str) -> None:
    """A value a minute of 10 kW, and 30 values in half a minute that climb to 310 kW and fall back."""
    calm = [(PV, 60 * minute, 10.0, GOOD) for minute in range(15)]
    burst = [(PV, 300 + second, 310.0, GOOD) for second in range(1, 31)] + [(PV, 331, 10.0, GOOD)]
    seconds = frame([*calm, *burst], minutes=0).with_columns(
        time=pl.Series([T0 + timedelta(seconds=second) for _, second, _, _ in [*calm, *burst]])
    )
    write_readings(db, site, seconds.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))), "test")
    mean = read_readings(db, site, T0, T0 + timedelta(minutes=15), [PV], step="15m")["value"].to_list()
    assert mean == [pytest.approx((310 * 30 + 10 * 870) / 900)]


@pytest.mark.parametrize("zone", ["Europe/Amsterdam", "America/New_York", "Asia/Kathmandu"])
def test_times_of_any_zone_are_the_same_instants_also_when_the_clocks_change(
    db: TenantStore, site: str, zone: str
) -> None:
    utc = frame([(PV, k, float(k), GOOD) for k in range(24)])
    write_readings(db, site, utc.with_columns(pl.col("time").dt.convert_time_zone(zone)), "test")
    assert_frame_equal(everything(db, site), utc)


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"asset_id": "pv-9"}, "point pv-9/active_power_kw is not one of site 's1'"),
        ({"quantity": "soc"}, "quantities of pv-1: active_power_kw"),
        ({"value": float("nan")}, "value is nan in row 0"),
        ({"value": float("inf")}, "value is inf in row 0"),
        ({"value": True}, "value is Boolean; a number is needed"),
        ({"value": "4,5"}, "value is String"),
        ({"quality": 9}, "quality 9 is not one of"),
        ({"value": None}, "has no value but quality 'good'"),
        ({"time": datetime(2026, 1, 1)}, "time has no time zone"),  # noqa: DTZ001 - the fault under test
        ({"time": NOW + timedelta(days=1)}, "which is in the future"),
        ({"time": None}, "time is null in row 0"),
        ({"colour": "blue"}, "column 'colour' is not known"),
    ],
)
def test_bad_rows_are_refused_by_name_before_anything_is_written(
    db: TenantStore, site: str, change: dict, complaint: str
) -> None:
    good = {"asset_id": "pv-1", "quantity": "active_power_kw", "time": T0, "value": 1.0, "quality": GOOD}
    with pytest.raises(InvalidDataError) as refused:
        write_readings(db, site, pl.DataFrame([good | change]), "test")
    assert complaint in str(refused.value)
    assert everything(db, site).is_empty()


def test_unknown_sites_are_named_with_those_there_are(db: TenantStore, site: str) -> None:
    with pytest.raises(NotFoundError, match="site 'nowhere' does not exist; known: s1"):
        read_readings(db, "nowhere", T0, T0)
    with pytest.raises(InvalidDataError, match="cannot be stored"):
        read_readings(db, "no\0where", T0, T0)


def test_several_writes_in_one_transaction_happen_together_or_not_at_all(db: TenantStore, site: str) -> None:
    with pytest.raises(RuntimeError, match="torn"), db.begin():  # noqa: PT012 - the point is what came before
        write_readings(db, site, frame([(PV, 0, 1.0, GOOD)]), "test")
        write_readings(db, site, frame([(PV, 900, 1.0, GOOD)], minutes=1), "test")
        raise RuntimeError("torn")
    assert everything(db, site).is_empty()


def test_the_newest_reading_is_known_by_site_asset_and_point(db: TenantStore, site: str) -> None:
    assert latest_reading_time(db, site) is None
    write_readings(db, site, frame([(PV, 0, 1.0, GOOD), (LOAD, 3, 1.0, GOOD)]), "test")
    assert latest_reading_time(db, site) == T0 + timedelta(minutes=45)
    assert latest_reading_time(db, site, *PV) == T0


def test_writing_again_and_again_uses_up_no_numbers_of_sources(
    db: TenantStore, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_readings(db, site, frame([(PV, 0, float(number), GOOD)]), "control")
    write_readings(db, site, frame([(PV, 0, 9.0, GOOD)]), "file:a.csv")

    def sources() -> dict[str, int]:
        with db.begin() as connection:
            found = connection.exec_driver_sql("SELECT name, source_id FROM sources")
            return {row[0]: row[1] for row in found}

    found = sources()
    assert found["file:a.csv"] == found["control"] + 1
    monkeypatch.setattr("flexergy_pipelines.store.readings._MOST_SOURCES", 0)
    write_readings(db, site, frame([(PV, 0, 8.0, GOOD)]), "file:b.csv")
    assert "file:b.csv" not in sources()
    assert read_corrections(db, site, T0, T0 + timedelta(days=1))["new_source"].to_list()[-1] == "file"

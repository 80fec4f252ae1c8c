"""Energy of quarters of an hour: registers first, power where they fail, and nothing lost across daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.metering import energy_of_site, energy_per, interval_energy
from flexergy_pipelines.metering.energy import POWER, REGISTER
from flexergy_pipelines.store import InvalidDataError, TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.energy import read_energy, write_energy
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site

T0 = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight of the 29th in Amsterdam, whose day has 23 hours
QUARTER = timedelta(minutes=15)
TIME = pl.Datetime("us", "UTC")


def series(values: list[float | None], start: datetime = T0, step: timedelta = QUARTER) -> pl.DataFrame:
    times = pl.Series([start + n * step for n in range(len(values))], dtype=TIME)
    return pl.DataFrame({"time": times, "value": pl.Series(values, dtype=pl.Float64)})


def power(values: list[float | None]) -> pl.DataFrame:
    return series(values).with_columns(pl.lit(None, dtype=pl.String).alias("flag"))


def counted(
    forward: list[float | None], kw: list[float | None], step: timedelta = QUARTER, largest_kw: float = 1e6
) -> pl.DataFrame:
    registers = {"forward": series(forward, step=step), "reverse": series([0.0] * len(forward), step=step)}
    return interval_energy(power(kw), registers, T0, T0 + len(kw) * QUARTER, largest_kw=largest_kw)


def test_registers_count_what_a_mean_power_cannot_see() -> None:
    # Half of the quarter 40 kW in, half 40 kW out: the mean is nothing, the registers counted 5 kWh each way.
    registers = {"forward": series([100.0, 105.0]), "reverse": series([7.0, 12.0])}
    [row] = interval_energy(power([0.0]), registers, T0, T0 + QUARTER, largest_kw=100).rows(named=True)
    assert (row["forward_kwh"], row["reverse_kwh"], row["basis"]) == (5.0, 5.0, REGISTER)


def test_a_new_register_a_jump_and_a_hole_are_bridged_by_power() -> None:
    found = counted([100.0, 101.0, 0.5, 1.5, 9e5, 9e5 + 1, None, None, 9e5 + 4], [4.0] * 8, largest_kw=50)
    assert found["basis"].to_list() == [REGISTER, POWER, REGISTER, POWER, REGISTER, POWER, POWER, POWER]
    assert found["forward_kwh"].to_list() == pytest.approx([1.0] * 8)


def test_bounds_are_read_between_readings_of_any_rhythm() -> None:
    minutes = counted([float(n) for n in range(31)], [60.0, 60.0], step=timedelta(minutes=1))
    assert minutes["forward_kwh"].to_list() == [15.0, 15.0]
    odd = counted([0.0, 7.0, 14.0, 21.0, 28.0, 35.0], [60.0, 60.0], step=timedelta(minutes=7))
    assert odd["forward_kwh"].to_list() == pytest.approx([15.0, 15.0])
    assert odd["basis"].to_list() == [REGISTER, REGISTER]


def test_what_is_not_known_is_null_and_not_zero() -> None:
    found = interval_energy(power([1.0, None, -2.0]), {}, T0, T0 + 3 * QUARTER, largest_kw=10)
    assert found["forward_kwh"].to_list() == [0.25, None, 0.0]
    assert found["reverse_kwh"].to_list() == [0.0, None, 0.5]


@given(
    values=st.lists(st.floats(-1e5, 1e5), min_size=96, max_size=300),
    start=st.sampled_from([T0, datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 6, 1, 5, 30, tzinfo=UTC)]),
    zone=st.sampled_from(["Europe/Amsterdam", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu", "UTC"]),
    every=st.sampled_from(["15m", "1h", "1d", "1mo", "1y"]),
)
def test_sums_of_any_local_period_keep_all_energy(values: list[float], start: datetime, zone: str, every: str) -> None:
    frame = series(list(values), start).with_columns(pl.lit(None, dtype=pl.String).alias("flag"))
    energy = interval_energy(frame, {}, start, start + len(values) * QUARTER, largest_kw=2e5)
    energy = energy.with_columns(pl.lit("a").alias("asset_id"))
    sums = energy_per(energy, every, zone)
    for column in ("forward_kwh", "reverse_kwh"):
        whole = energy[column].sum()
        assert sums[column].sum() == pytest.approx(whole, rel=1e-9, abs=1e-9)
    net = (sums["forward_kwh"] - sums["reverse_kwh"]).sum()
    assert net == pytest.approx(float(np.sum(values)) / 4, rel=1e-9, abs=1e-6)
    assert sums["known"].sum() == len(values)


@pytest.mark.parametrize(
    ("midnight", "quarters"),
    [(T0, 92), (datetime(2026, 10, 24, 22, tzinfo=UTC), 100), (datetime(2026, 6, 1, 22, tzinfo=UTC), 96)],
)
def test_a_local_day_has_as_many_quarters_as_it_has(midnight: datetime, quarters: int) -> None:
    frame = series([4.0] * 110, midnight).with_columns(pl.lit(None, dtype=pl.String).alias("flag"))
    energy = interval_energy(frame, {}, midnight, midnight + 110 * QUARTER, largest_kw=10)
    days = energy_per(energy.with_columns(pl.lit("a").alias("asset_id")), "1d", "Europe/Amsterdam")
    first = days.row(0, named=True)
    assert (first["time"], first["known"], first["intervals"], first["forward_kwh"]) == (
        midnight, quarters, quarters, float(quarters)
    )  # fmt: skip


@pytest.mark.requirement("energy.05.3")
def test_energy_of_a_site_is_stored_once_and_read_back(db: TenantStore) -> None:
    save_site(db, sample_site("microgrid"))
    load = power([8.0] * 8).with_columns(asset_id=pl.lit("load-1"), quantity=pl.lit("active_power_kw"))
    load = load.with_columns(pl.when(pl.col("time") == T0).then(pl.lit("interpolated")).otherwise(None).alias("flag"))
    write_clean(db, "microgrid", load)
    for name, values in (("import", [0.0, 5.0, 10.0, 15.0]), ("export", [0.0] * 4)):
        rows = series(list(values)).with_columns(asset_id=pl.lit("pcc"), quantity=pl.lit(f"{name}_energy_kwh"))
        write_readings(db, "microgrid", rows, "test")
    end = T0 + 8 * QUARTER
    assert energy_of_site(db, "microgrid", T0, end) == 16
    assert energy_of_site(db, "microgrid", T0, end) == 0
    found = read_energy(db, "microgrid", T0, end, ["load-1"])
    assert found["forward_kwh"].to_list() == [2.0] * 8
    assert found["estimated"].to_list() == [True] + [False] * 7
    pcc = read_energy(db, "microgrid", T0, end, ["pcc"])
    assert pcc["forward_kwh"].to_list() == [5.0, 5.0, 5.0] + [None] * 5
    with pytest.raises(InvalidDataError, match="-1 kWh is below 0"):
        write_energy(db, "microgrid", pcc.head(1).with_columns(forward_kwh=pl.lit(-1.0)))

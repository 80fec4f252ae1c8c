"""Sources, gensets, loads and the grid connection, each by itself."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plant_simulator.genset import START_DELAY_S, Genset
from plant_simulator.loads import LimitedLoad, Load
from plant_simulator.pcc import GridConnection
from plant_simulator.sources import Source


def rng() -> random.Random:
    return random.Random(7)  # noqa: S311 - physics, not secrets


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(-50, 400)), min_size=1, max_size=50))
def test_a_source_never_gives_more_than_offered_or_settled_limit(offers: list[tuple[float, float]]) -> None:
    source = Source("pv", 200.0, rng())
    for offered_kw, limit_kw in offers:
        source.limit_kw = limit_kw
        for _ in range(6):
            source.step(offered_kw, 1.0)
            assert 0.0 <= source.power_kw <= source.available_kw <= 200.0
        assert source.power_kw <= max(0.0, limit_kw) + 1e-9


def test_a_source_follows_its_series_on_average() -> None:
    source = Source("wind", 2000.0, rng())
    total_kwh = 0.0
    for _ in range(86_400 // 5):
        source.step(1000.0, 5.0)
        total_kwh += source.power_kw * 5 / 3600
    assert total_kwh == pytest.approx(24_000, rel=0.005)


def test_curtailment_ramps_and_counts_the_lost_energy() -> None:
    source = Source("wind", 2000.0, rng())
    source.step(1500.0, 1.0)
    source.limit_kw = 0.0
    source.step(1500.0, 1.0)
    assert 0.0 < source.power_kw <= 1900.0
    for _ in range(30):
        source.step(1500.0, 1.0)
    assert source.power_kw == 0.0
    assert source.curtailed_kwh > 0.0


def test_a_source_that_cannot_be_curtailed_ignores_limits() -> None:
    source = Source("pv", 200.0, rng(), curtailable=False)
    source.limit_kw = 0.0
    source.step(100.0, 60.0)
    assert source.power_kw == source.available_kw > 90.0


def test_a_genset_starts_late_runs_in_its_range_and_ramps() -> None:
    genset = Genset(30.0, 100.0, 5.0)
    genset.setpoint_kw = 10.0
    for _ in range(int(START_DELAY_S)):
        genset.step(1.0)
        assert genset.power_kw == 0.0
        assert not genset.running
    previous = 0.0
    for _ in range(20):
        genset.step(1.0)
        assert genset.power_kw - previous <= 5.0 + 1e-9
        previous = genset.power_kw
    assert genset.running
    assert genset.power_kw == pytest.approx(30.0)
    genset.setpoint_kw = 500.0
    for _ in range(20):
        genset.step(1.0)
    assert genset.power_kw == pytest.approx(100.0)
    genset.setpoint_kw = 0.0
    for _ in range(60):
        genset.step(1.0)
    assert genset.state == "off"
    assert genset.power_kw == 0.0
    assert genset.starts == 1


def test_a_limited_load_keeps_below_its_limit_and_counts_what_it_held_back() -> None:
    block = LimitedLoad(100.0, rng())
    block.step(80.0, 1.0)
    assert block.power_kw == pytest.approx(80.0, rel=0.1)
    block.limit_kw = 30.0
    for _ in range(5):
        block.step(80.0, 1.0)
    assert block.power_kw <= 30.0
    assert block.curtailed_kwh > 0.0


def test_a_load_flickers_around_what_users_want() -> None:
    load = Load(rng())
    values = []
    for _ in range(20_000):
        load.step(50.0, 10.0)
        values.append(load.power_kw)
    assert sum(values) / len(values) == pytest.approx(50.0, rel=0.005)
    assert max(values) > min(values)


def test_the_meter_counts_import_and_export_apart() -> None:
    pcc = GridConnection(100.0, rng())
    for _ in range(3600):
        pcc.step(60.0, 10.0, 1.0)
    for _ in range(1800):
        pcc.step(-40.0, 10.0, 1.0)
    assert pcc.import_kwh == pytest.approx(60.0)
    assert pcc.export_kwh == pytest.approx(20.0)


def test_voltage_falls_with_import_and_frequency_stays_plausible() -> None:
    idle, busy = GridConnection(100.0, rng()), GridConnection(100.0, rng())
    for _ in range(600):
        idle.step(0.0, 0.0, 1.0)
        busy.step(100.0, 0.0, 1.0)
        assert 49.8 < busy.frequency_hz < 50.2
    assert all(b < i for b, i in zip(busy.voltages_v, idle.voltages_v, strict=True))
    assert 210.0 < min(busy.voltages_v) < 230.0

"""The balance by phase: hand-made periods, and the sum of the phases against the whole."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.kpis.energy import balance
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.phases import PHASES, balance_by_phase, phase_powers
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site
from tests.kpis.cases import START, flows

powers = st.lists(st.floats(0, 1e4), min_size=6, max_size=6)


def table(figures: list[Figure]) -> dict[tuple[str, str], float | None]:
    return {(figure.scope, figure.kpi): figure.value for figure in figures}


@pytest.mark.requirement("energy.05.5")
def test_each_asset_counts_on_the_phase_it_is_connected_to() -> None:
    period = flows(load=[30, 30], pv=[12, 12], ess=[0, 0])
    found = table(balance_by_phase(period, {"load-1": "L2"}, {}))
    # PV and grid connection have three phases: 4 kW of sun and 6 kW of import on each, all of the load on L2.
    assert [found[phase, "energy_supplied"] for phase in PHASES] == [20, 20, 20]
    assert [found[phase, "energy_consumed"] for phase in PHASES] == [0, 60, 0]
    assert [found[phase, "technical_losses"] for phase in PHASES] == [20, -40, 20]


@pytest.mark.requirement("energy.05.5")
def test_what_a_meter_measures_by_phase_counts_and_its_holes_go_by_connection() -> None:
    period = flows(load=[30, 30], pv=[0, 0], ess=[0, 0])
    nan = float("nan")
    measured = {
        **{("load-1", phase): np.array([kw, nan]) for phase, kw in zip(PHASES, (20.0, 8.0, 2.0), strict=True)},
        **{("pcc", phase): np.array([kw, nan]) for phase, kw in zip(PHASES, (21.0, 8.5, 2.5), strict=True)},
    }
    figures = balance_by_phase(period, {}, measured)
    found = table(figures)
    assert [found[phase, "energy_consumed"] for phase in PHASES] == pytest.approx([30, 18, 12])
    assert [found[phase, "technical_losses"] for phase in PHASES] == pytest.approx([1, 0.5, 0.5])
    assert figures[0].reference == "measured by phase: load-1, pcc; the rest by its connection"


@given(load=powers, pv=powers, ess=st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_the_phases_of_three_phase_assets_add_up_to_the_whole(
    load: list[float], pv: list[float], ess: list[float]
) -> None:
    period = flows(load, pv, ess)
    whole, found = {figure.kpi: figure.value for figure in balance(period)}, table(balance_by_phase(period, {}, {}))
    for kpi, value in whole.items():
        assert value is not None
        total = sum(found[phase, kpi] or 0.0 for phase in PHASES)
        assert total == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_phases_are_read_of_the_assets_whose_meters_tell_them(db: TenantStore) -> None:
    site = sample_site("microgrid")
    save_site(db, site)
    period = flows(load=[30, 30], pv=[0, 0], ess=[0, 0], step_hours=0.25)
    assert phase_powers(db, site, period) == {}
    times = [START + timedelta(minutes=5 * n) for n in range(3)]
    rows = {"asset_id": ["load-1"] * 3, "quantity": ["active_power_l1_kw"] * 3, "time": times, "value": [1.0, 2.0, 6.0]}
    write_readings(db, "microgrid", pl.DataFrame(rows), "test")
    found = phase_powers(db, site, period)
    assert list(found) == [("load-1", "L1")]
    assert found["load-1", "L1"].tolist() == [pytest.approx(3.0), pytest.approx(float("nan"), nan_ok=True)]

"""A simulated plant begins where the history in the store ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.cli.handover import stored_registers, stored_soc
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site
from plant_simulator.start import begin_at, go_on_counting, parse_register, parse_soc
from tests.plant_simulator.fakes import make_plant

END = datetime(2026, 6, 3, 9, 45, tzinfo=UTC)


def test_the_newest_good_state_of_charge_is_handed_over(db: TenantStore) -> None:
    assert stored_soc(db) == []
    site = sample_site("microgrid")
    save_site(db, site)
    assert stored_soc(db) == []
    times = [END - timedelta(minutes=15 * i) for i in range(4)]
    rows = pl.DataFrame({"time": times, "value": [None, 0.8125, 0.5, 0.4], "quality": [3, 0, 0, 0]})
    write_readings(db, site.id, rows.with_columns(asset_id=pl.lit("ess-1"), quantity=pl.lit("soc")), source="a history")
    (word,) = stored_soc(db)
    assert word == f"{site.id}/ess-1=0.8125@{times[1].isoformat()}"
    plant, _ = make_plant()
    begin_at({site.id: plant}, [parse_soc(word)], {})
    assert plant.measure("ess-1", "soc") == pytest.approx(0.8125)


def test_the_newest_good_reading_of_the_connections_registers_is_handed_over(db: TenantStore) -> None:
    site = sample_site("microgrid")
    save_site(db, site)
    assert stored_registers(db) == []
    times = [END - timedelta(minutes=15 * i) for i in range(3)]
    rows = pl.DataFrame({"time": times, "value": [None, 7000.25, 6990.0], "quality": [3, 0, 0]})
    named = rows.with_columns(asset_id=pl.lit("pcc"), quantity=pl.lit("import_energy_kwh"))
    write_readings(db, site.id, named, source="a history")
    (word,) = stored_registers(db)
    assert word == f"{site.id}/pcc/import_energy_kwh=7000.250@{times[1].isoformat()}"
    plant, _ = make_plant()
    go_on_counting({site.id: plant}, [parse_register(word)], {})
    assert plant.measure("pcc", "import_energy_kwh") == 7000.25

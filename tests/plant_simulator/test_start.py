"""Where batteries and registers begin: as ordered, or where the history ended, unless something newer is remembered."""

from datetime import timedelta

import pytest

from plant_simulator.dlms_meter import DlmsMeter
from plant_simulator.start import begin_at, go_on_counting, parse_register, parse_soc
from tests.plant_simulator.fakes import START, make_plant, run

READ_AT = START - timedelta(hours=1)


def test_a_reading_holds_unless_the_plant_remembers_something_newer_and_an_order_always_does() -> None:
    plant, _ = make_plant()
    reading, order = parse_soc(f"microgrid/ess-1=0.63@{READ_AT.isoformat()}"), parse_soc("microgrid/ess-1=0.2")
    assert begin_at({"microgrid": plant}, [reading], {}) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == pytest.approx(0.63)
    plant.batteries["ess-1"].energy_kwh = 0.0
    assert begin_at({"microgrid": plant}, [reading], {"microgrid": READ_AT + timedelta(seconds=1)}) == []
    assert plant.measure("ess-1", "soc") == 0.0
    assert begin_at({"microgrid": plant}, [reading], {"microgrid": READ_AT - timedelta(seconds=1)}) == [
        "microgrid/ess-1"
    ]
    assert begin_at({"microgrid": plant}, [reading, order], {"microgrid": START}) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == pytest.approx(0.2)


def test_one_number_is_for_every_battery_and_a_site_that_is_not_simulated_is_passed_over() -> None:
    plant, _ = make_plant()
    elsewhere = parse_soc(f"far-away/ess-1=0.9@{READ_AT.isoformat()}")
    assert begin_at({"microgrid": plant}, [elsewhere, parse_soc("1")], {}) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == 1.0


@pytest.mark.parametrize(
    "text", ["", "full", "1.01", "-0.1", "nan", "=0.5", "a/b=", "a/b=0.5@", "a/b=0.5@2026-06-03T10:00"]
)
def test_what_is_no_state_of_charge_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a fraction"):
        parse_soc(text)


def test_registers_go_on_counting_from_the_history_and_the_load_profile_shows_no_jump() -> None:
    plant, clock = make_plant()
    meter = DlmsMeter(next(d for d in plant.site.devices() if d.id == "pcc-meter"), plant)
    read = parse_register(f"microgrid/pcc/import_energy_kwh=123456.5@{READ_AT.isoformat()}")
    order = parse_register("microgrid/load-1/import_energy_kwh=10")
    told = {"microgrid": plant}
    assert go_on_counting(told, [read, order], {}) == [
        "microgrid/pcc/import_energy_kwh", "microgrid/load-1/import_energy_kwh",
    ]  # fmt: skip
    meter.refresh()
    begun = plant.measure("pcc", "import_energy_kwh")
    assert begun == 123_456.5
    assert plant.measure("load-1", "import_energy_kwh") == 10.0
    for _ in range(16):
        run(plant, clock, 60, 60.0)
        meter.refresh()
    assert plant.measure("pcc", "import_energy_kwh") >= begun
    assert meter.profile[-1].import_wh < 1e6  # a quarter of an hour, not the whole past
    assert go_on_counting(told, [read], {"microgrid": READ_AT + timedelta(seconds=1)}) == []
    with pytest.raises(ValueError, match="microgrid/ess-1: has no register import_energy_kwh; pcc has"):
        go_on_counting(told, [parse_register("microgrid/ess-1/import_energy_kwh=1")], {})
    with pytest.raises(ValueError, match="no site far-away is simulated"):
        go_on_counting(told, [parse_register("far-away/pcc/import_energy_kwh=1")], {})


@pytest.mark.parametrize(
    "text", ["", "5", "a/pcc=5", "a/pcc/soc=5", "a/pcc/import_energy_kwh=-1", "a/pcc/import_energy_kwh=inf",
             "a/pcc/import_energy_kwh=1@2026-06-03T10:00"]
)  # fmt: skip
def test_what_is_no_reading_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be <site>/<asset>/import_energy_kwh or export_energy_kwh"):
        parse_register(text)

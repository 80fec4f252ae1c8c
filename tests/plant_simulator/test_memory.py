"""Plants remember their state of charge and counters over a restart."""

from pathlib import Path

import pytest

from plant_simulator.memory import recall, remember
from tests.plant_simulator.fakes import make_plant, run


def test_state_of_charge_and_counters_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "plants.json"
    plant, clock = make_plant()
    for _ in range(60):
        plant.command("ess-1", "active_power_setpoint_kw", -200.0)
        run(plant, clock, 30)
    remember({"microgrid": plant}, path)
    again, _ = make_plant()
    assert recall({"microgrid": again}, path) == (len(again.site.assets()), {"microgrid": clock.now()})
    assert again.measure("ess-1", "soc") == pytest.approx(plant.measure("ess-1", "soc")) != 0.5
    assert again.measure("ess-1", "soh") == pytest.approx(plant.measure("ess-1", "soh"))
    assert again.measure("pcc", "import_energy_kwh") == pytest.approx(plant.measure("pcc", "import_energy_kwh"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"microgrid": 3}', '{"microgrid": {"ess-1": {"energy_kwh": "full"}}}']
)
def test_a_spoilt_memory_means_a_fresh_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plants.json"
    path.write_text(text)
    plant, _ = make_plant()
    assert recall({"microgrid": plant}, path) == (0, {})
    assert plant.measure("ess-1", "soc") == pytest.approx(0.5)


def test_no_memory_is_a_first_start(tmp_path: Path) -> None:
    plant, _ = make_plant()
    assert recall({"microgrid": plant}, tmp_path / "plants.json") == (0, {})


def test_a_simulator_of_other_sites_leaves_what_is_remembered_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "plants.json"
    first, clock = make_plant()
    first.batteries["ess-1"].energy_kwh = 123.0
    remember({"microgrid": first}, path)
    park, later = make_plant("hybrid-park")
    later.advance(3600.0)
    remember({"hybrid-park": park}, path)
    again, _ = make_plant()
    assert recall({"microgrid": again}, path) == (len(again.site.assets()), {"microgrid": clock.now()})
    assert again.batteries["ess-1"].energy_kwh == 123.0
    assert recall({"hybrid-park": park}, path)[1] == {"hybrid-park": later.now()}

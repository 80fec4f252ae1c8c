"""Where the batteries begin: as ordered, or where the history ended, unless the plant remembers something newer."""

from datetime import timedelta

import pytest

from plant_simulator.start import begin_at, parse_soc
from tests.plant_simulator.fakes import START, make_plant

READ_AT = START - timedelta(hours=1)


def test_a_reading_holds_unless_the_plant_remembers_something_newer_and_an_order_always_does() -> None:
    plant, _ = make_plant()
    reading, order = parse_soc(f"microgrid/ess-1=0.63@{READ_AT.isoformat()}"), parse_soc("microgrid/ess-1=0.2")
    assert begin_at({"microgrid": plant}, [reading], None) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == pytest.approx(0.63)
    plant.batteries["ess-1"].energy_kwh = 0.0
    assert begin_at({"microgrid": plant}, [reading], READ_AT + timedelta(seconds=1)) == []
    assert plant.measure("ess-1", "soc") == 0.0
    assert begin_at({"microgrid": plant}, [reading], READ_AT - timedelta(seconds=1)) == ["microgrid/ess-1"]
    assert begin_at({"microgrid": plant}, [reading, order], START) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == pytest.approx(0.2)


def test_one_number_is_for_every_battery_and_a_site_that_is_not_simulated_is_passed_over() -> None:
    plant, _ = make_plant()
    elsewhere = parse_soc(f"far-away/ess-1=0.9@{READ_AT.isoformat()}")
    assert begin_at({"microgrid": plant}, [elsewhere, parse_soc("1")], None) == ["microgrid/ess-1"]
    assert plant.measure("ess-1", "soc") == 1.0


@pytest.mark.parametrize(
    "text", ["", "full", "1.01", "-0.1", "nan", "=0.5", "a/b=", "a/b=0.5@", "a/b=0.5@2026-06-03T10:00"]
)
def test_what_is_no_state_of_charge_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a fraction"):
        parse_soc(text)

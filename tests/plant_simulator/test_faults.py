"""Faults to order: what is refused, what may stand side by side, and what they do to a genset."""

from __future__ import annotations

from typing import Any

import pytest

from plant_simulator.faults import FaultRequest
from tests.plant_simulator.fakes import make_plant, run


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"kind": "down", "value": 3.0}, "value is for .*wrong_scale, not for down"),
        ({"kind": "frequency", "value": 400.0}, r"frequency: value 400 is outside -10\.\.10 Hz"),
        ({"kind": "voltage", "value": -1.5}, r"voltage: value -1.5 is outside -1\.\.1 of nominal"),
        ({"kind": "hot_cells", "value": -300.0}, r"hot_cells: value -300 is outside -100\.\.200 °C"),
        ({"kind": "bms_alarm", "value": 2.5}, r"value 2.5 is no bit number of 0\.\.30"),
    ],
)
def test_what_a_kind_does_not_take_is_refused_and_not_passed_over(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FaultRequest.model_validate({"target": "microgrid/esc-1", **more})


def test_several_alarms_of_a_battery_stand_side_by_side_and_heal_one_by_one() -> None:
    plant, clock = make_plant()

    def word() -> int:
        run(plant, clock, 1)
        return int(plant.measure("ess-1", "bms_alarm_word"))

    first, second = (
        plant.faults.set(FaultRequest(target="microgrid/ess-1", kind="bms_alarm", value=bit)) for bit in (21.0, 25.0)
    )
    assert word() == 1 << 21 | 1 << 25
    again = plant.faults.set(FaultRequest(target="microgrid/ess-1", kind="bms_alarm", value=25.0))
    assert [fault.fault_id for fault in plant.faults.active()] == [first.fault_id, again.fault_id]
    assert second.fault_id != again.fault_id
    plant.faults.clear(first.fault_id)
    assert word() == 1 << 25


def test_a_genset_that_does_not_start_and_one_that_trips() -> None:
    plant, clock = make_plant()
    plant.orders.set_ttl_s("genset-1", 3600.0)
    plant.command("genset-1", "active_power_setpoint_kw", 100.0)
    plant.faults.set(FaultRequest(target="microgrid/genset-1", kind="start_failure"))
    for _ in range(60):
        run(plant, clock, 1)
        assert plant.measure("genset-1", "running") == 0.0
    assert plant.gensets["genset-1"].starts > 1  # it tries again and again
    plant.faults.clear()
    run(plant, clock, 60)
    assert plant.measure("genset-1", "active_power_kw") == pytest.approx(100.0)
    plant.faults.set(FaultRequest(target="microgrid/genset-1", kind="engine_trip"))
    run(plant, clock, 1)
    assert (plant.measure("genset-1", "active_power_kw"), plant.measure("genset-1", "running")) == (0.0, 0.0)
    assert plant.gensets["genset-1"].state == "off"
    run(plant, clock, 120)
    assert plant.measure("genset-1", "running") == 0.0
    plant.faults.clear()
    run(plant, clock, 60)
    assert plant.measure("genset-1", "active_power_kw") == pytest.approx(100.0)

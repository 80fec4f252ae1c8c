"""A device's registers: values through the template, writes to the plant, and what each fault makes of it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.grid import SimulatedClock, decode, encode
from flexergy_pipelines.grid.templates import encode_unsigned32
from plant_simulator.device import DeviceRegisters
from plant_simulator.faults import FaultRequest
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run

SETPOINT = "active_power_setpoint_kw"


class Rig:
    """One device of a running plant."""

    def __init__(self, device_id: str, site_id: str = "microgrid") -> None:
        self.plant: Plant
        self.clock: SimulatedClock
        self.plant, self.clock = make_plant(site_id)
        device = next(d for d in self.plant.site.devices() if d.id == device_id)
        self.registers = DeviceRegisters(device, self.plant)
        self.template = self.registers.template

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            run(self.plant, self.clock, 1)
            self.registers.refresh()

    def value(self, quantity: str, index: int = 0) -> float | None:
        point = self.template.point(quantity, index)
        return decode(point, self.registers.read(point.table, point.address, point.width))

    def order(self, quantity: str, value: float, index: int = 0) -> list[int] | None:
        point = self.template.point(quantity, index)
        return self.registers.write(point.address, encode(point, value))

    def fail(self, kind: str, **more: float) -> None:
        self.plant.faults.set(FaultRequest.model_validate({"target": self.registers.device.key, "kind": kind, **more}))


def test_values_stand_at_their_addresses_for_every_asset_of_the_device() -> None:
    rig = Rig("res-1", "hybrid-park")
    rig.run(3)
    for index, asset in enumerate(rig.registers.device.assets):
        expected = rig.plant.measure(asset.id, "active_power_kw")
        assert rig.value("active_power_kw", index) == pytest.approx(expected, abs=0.006)


def test_a_written_setpoint_reads_back_and_moves_the_battery() -> None:
    rig = Rig("esc-1")
    assert rig.order(SETPOINT, -62.5) is not None
    assert rig.value(SETPOINT) == -62.5
    rig.run(3)
    assert rig.value(SETPOINT) == -62.5
    assert rig.value("active_power_kw") == pytest.approx(-62.5)


def test_one_assets_block_leaves_the_others_alone() -> None:
    rig = Rig("res-1", "hybrid-park")
    rig.order("active_power_limit_kw", 10.0, index=2)
    limited = rig.registers.device.assets[2].id
    rig.run(40)
    for asset in rig.registers.device.assets:
        limit = rig.plant.measure(asset.id, "active_power_limit_kw")
        assert (limit == 10.0) == (asset.id == limited)


def test_the_devices_own_revert_timer_falls_back_to_zero() -> None:
    rig = Rig("esc-1")
    ttl_address = rig.template.setpoint_ttl_address
    assert ttl_address is not None
    rig.registers.write(ttl_address, [5])
    rig.order(SETPOINT, 40.0)
    rig.run(4)
    assert rig.value("active_power_kw") == pytest.approx(40.0)
    rig.run(3)
    assert rig.value("active_power_kw") == 0.0
    assert rig.value(SETPOINT) == 0.0


def test_a_moving_heartbeat_keeps_a_setpoint_alive_and_a_stuck_one_does_not() -> None:
    rig = Rig("esc-1")
    ttl_address, beat_address = rig.template.setpoint_ttl_address, rig.template.heartbeat_address
    assert ttl_address is not None
    assert beat_address is not None
    rig.registers.write(ttl_address, [5])
    rig.order(SETPOINT, 40.0)
    for beat in range(1, 6):
        rig.registers.write(beat_address, [beat])
        rig.run(3)
    assert rig.value("active_power_kw") == pytest.approx(40.0)
    for _ in range(4):
        rig.registers.write(beat_address, [5])
        rig.run(3)
    assert rig.value("active_power_kw") == 0.0


def test_the_next_hours_schedule_is_kept_in_four_quarters() -> None:
    rig = Rig("esc-1")
    schedule = rig.template.schedule
    assert schedule is not None
    start = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)
    wanted = (10.0, -20.0, 30.5, 0.0)
    for slot, value in enumerate(wanted):
        point = schedule.point(slot)
        rig.registers.write(point.address, encode(point, value))
    assert rig.plant.schedule("ess-1") is None
    rig.registers.write(schedule.start_address, encode_unsigned32(int(start.timestamp())))
    assert rig.plant.schedule("ess-1") == (start, wanted)


def test_a_value_that_is_no_number_is_refused_and_nothing_is_taken() -> None:
    rig = Rig("genset-ctl-1")
    point = rig.template.point(SETPOINT)
    assert rig.registers.write(point.address, encode(point, None)) is None
    assert rig.value(SETPOINT) == 0.0


def test_frozen_values_stand_still_while_the_plant_moves_on() -> None:
    rig = Rig("pcc-meter")
    rig.run(2)
    rig.fail("frozen")
    before = [rig.value(q) for q in ("active_power_kw", "frequency_hz", "voltage_l1_v")]
    rig.plant.command("ess-1", SETPOINT, 100.0)
    rig.run(30)
    assert [rig.value(q) for q in ("active_power_kw", "frequency_hz", "voltage_l1_v")] == before
    rig.plant.faults.clear()
    rig.run(1)
    assert rig.value("active_power_kw") != before[0]


def test_nan_shows_the_sentinel_of_no_value() -> None:
    rig = Rig("esc-1")
    rig.fail("nan", duration_s=5.0)
    rig.run(2)
    assert rig.value("soc") is None
    assert rig.value("active_power_kw") is None
    rig.run(5)
    assert rig.value("soc") == pytest.approx(0.5, abs=0.001)


def test_spikes_are_rare_and_wild() -> None:
    rig = Rig("load-meter")
    rig.fail("spikes")
    wild = 0
    for _ in range(300):
        rig.run(1)
        value = rig.value("active_power_kw")
        wild += value is None or abs(value - rig.plant.measure("load-1", "active_power_kw")) > 100
    assert 0 < wild < 60


def test_an_acknowledged_write_without_effect() -> None:
    rig = Rig("esc-1")
    rig.order(SETPOINT, 20.0)
    rig.run(2)
    rig.fail("ack_without_effect")
    assert rig.order(SETPOINT, 90.0) is not None
    rig.run(3)
    assert rig.value(SETPOINT) == 20.0
    assert rig.value("active_power_kw") == pytest.approx(20.0)


def test_a_stuck_output_shows_the_new_setpoint_but_keeps_its_power() -> None:
    rig = Rig("esc-1")
    rig.order(SETPOINT, 20.0)
    rig.run(2)
    rig.fail("stuck_output")
    rig.order(SETPOINT, 90.0)
    rig.run(3)
    assert rig.value(SETPOINT) == 90.0
    assert rig.value("active_power_kw") == pytest.approx(20.0)


def test_a_wrong_scale_multiplies_the_powers_and_nothing_else() -> None:
    rig = Rig("load-meter")
    rig.run(2)
    rig.fail("wrong_scale", value=0.001)
    rig.run(1)
    power_kw = rig.plant.measure("load-1", "active_power_kw")
    assert rig.value("active_power_kw") == pytest.approx(power_kw / 1000, abs=0.006)
    assert rig.value("reactive_power_kvar") == pytest.approx(power_kw / 4000, abs=0.006)
    assert rig.value("frequency_hz") == pytest.approx(50.0, abs=0.2)


writes = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 40), st.integers(8_995, 9_001)),
        st.lists(
            st.one_of(st.integers(0, 0xFFFF), st.sampled_from([0, 0x7FFF, 0x8000, 0xFFFF])), min_size=1, max_size=8
        ),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(writes)
def test_any_write_is_taken_whole_or_refused_whole(orders: list[tuple[int, list[int]]]) -> None:
    rig = Rig("esc-1")
    size = rig.registers.sizes["holding"]
    for address, values in orders:
        fitting = values[: size - address]
        before = rig.registers.read("holding", 0, size)
        held = rig.registers.write(address, fitting)
        after = rig.registers.read("holding", 0, size)
        if held is None:
            assert after == before
        else:
            assert after == before[:address] + fitting + before[address + len(fitting) :]
        rig.run(2)
        assert 0.0 <= rig.plant.measure("ess-1", "soc") <= 1.0
        assert abs(rig.plant.measure("ess-1", "active_power_kw")) <= 250.0 + 1e-9

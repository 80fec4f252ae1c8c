"""The whole plant: balance, orders with their revert timers, repeatability, faults of the battery."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.grid import SimulatedClock
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.faults import FaultRequest
from plant_simulator.orders import DEFAULT_TTL_S
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import START, PlainSeries, make_plant, run

SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"

commands = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ("ess-1", SETPOINT),
                ("genset-1", SETPOINT),
                ("pv-1", LIMIT),
                ("wind-1", LIMIT),
                ("ev-1", LIMIT),
                ("cold-store", LIMIT),
            ]
        ),
        st.floats(-400, 400),
        st.integers(1, 90),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(commands)
def test_the_busbar_balances_whatever_is_commanded(orders: list[tuple[tuple[str, str], float, int]]) -> None:
    plant, clock = make_plant()
    for (asset_id, quantity), value, seconds in orders:
        plant.command(asset_id, quantity, value)
        for _ in range(seconds):
            run(plant, clock, 1)
            power = {a.id: plant.measure(a.id, "active_power_kw") for a in plant.site.assets()}
            given_kw = power["pv-1"] + power["wind-1"] + power["genset-1"] + power["ess-1"] + power["pcc"]
            assert given_kw == pytest.approx(power["load-1"] + power["ev-1"] + power["cold-store"], abs=1e-9)
            assert 0.0 <= plant.measure("ess-1", "soc") <= 1.0


def test_a_command_is_in_force_from_the_next_step() -> None:
    plant, clock = make_plant()
    before = plant.measure("ess-1", "active_power_kw")
    plant.command("ess-1", SETPOINT, 50.0)
    assert plant.measure("ess-1", "active_power_kw") == before
    run(plant, clock, 1)
    assert plant.measure("ess-1", "active_power_kw") == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("asset_id", "quantity", "value", "safe"),
    [
        ("ess-1", SETPOINT, -80.0, 0.0),
        ("genset-1", SETPOINT, 60.0, 0.0),
        ("pv-1", LIMIT, 10.0, 400.0),
        ("ev-1", LIMIT, 10.0, 100.0),
    ],
)
def test_without_refresh_an_order_reverts_to_its_safe_value(
    asset_id: str, quantity: str, value: float, safe: float
) -> None:
    plant, clock = make_plant()
    plant.orders.set_ttl_s(asset_id, 20.0)
    plant.command(asset_id, quantity, value)
    run(plant, clock, 19)
    assert plant.measure(asset_id, quantity) == value
    run(plant, clock, 2)
    assert plant.measure(asset_id, quantity) == safe
    run(plant, clock, 60)
    if quantity == SETPOINT:
        assert plant.measure(asset_id, "active_power_kw") == 0.0
    else:
        assert plant.measure(asset_id, "active_power_kw") > value


def test_orders_to_a_fast_plant_live_in_the_time_of_who_commands() -> None:
    site, clock, machine = sample_site("microgrid"), SimulatedClock(START), SimulatedClock(START)
    plant = Plant(site, PlainSeries(site), clock, 1, timers=machine)
    plant.command("ess-1", SETPOINT, 80.0)
    for _ in range(50):
        run(plant, clock, 60)
        machine.advance(1.0)
    assert plant.measure("ess-1", SETPOINT) == 80.0
    machine.advance(DEFAULT_TTL_S)
    run(plant, clock, 1)
    assert plant.measure("ess-1", SETPOINT) == 0.0


def test_a_refreshed_order_stays_in_force() -> None:
    plant, clock = make_plant()
    plant.command("ess-1", SETPOINT, 30.0)
    for _ in range(5):
        run(plant, clock, DEFAULT_TTL_S - 5)
        plant.command("ess-1", SETPOINT, 30.0)
    assert plant.measure("ess-1", "active_power_kw") == pytest.approx(30.0)
    assert plant.orders.reverts == 0


def test_the_same_seed_gives_the_same_plant() -> None:
    runs = []
    for seed in (1, 1, 2):
        plant, clock = make_plant(seed=seed)
        plant.command("ess-1", SETPOINT, 40.0)
        run(plant, clock, 300)
        runs.append(plant.state())
    assert runs[0] == runs[1]
    assert runs[0]["pcc"] != runs[2]["pcc"]


def test_a_bms_trip_stops_the_battery_and_heals_by_itself() -> None:
    plant, clock = make_plant()
    plant.command("ess-1", SETPOINT, 40.0)
    run(plant, clock, 5)
    plant.faults.set(FaultRequest(target="microgrid/ess-1", kind="bms_trip", duration_s=10.0))
    run(plant, clock, 2)
    assert plant.measure("ess-1", "available") == 0.0
    assert plant.measure("ess-1", "active_power_kw") == 0.0
    assert plant.measure("ess-1", "max_discharge_kw") == 0.0
    run(plant, clock, 12)
    assert plant.measure("ess-1", "available") == 1.0
    assert plant.measure("ess-1", "active_power_kw") == pytest.approx(40.0)


def test_a_whole_day_passes_and_its_energies_add_up() -> None:
    plant, clock = make_plant()
    start_kwh = plant.batteries["ess-1"].energy_kwh
    given_kwh = consumed_kwh = 0.0
    for quarter in range(96 * 3):
        plant.command("ess-1", SETPOINT, 60.0 if quarter % 96 < 40 else -45.0)
        for _ in range(30):
            run(plant, clock, 10, dt_s=10.0)
            given_kwh += sum(plant.measure(a, "active_power_kw") for a in ("pv-1", "wind-1", "ess-1")) / 360
            consumed_kwh += sum(plant.measure(a, "active_power_kw") for a in ("load-1", "ev-1", "cold-store")) / 360
    net_import_kwh = plant.measure("pcc", "import_energy_kwh") - plant.measure("pcc", "export_energy_kwh")
    assert clock.now().date() > START.date()
    assert given_kwh + net_import_kwh == pytest.approx(consumed_kwh, rel=1e-6)
    battery = plant.batteries["ess-1"]
    change = battery.charged_kwh * 0.95 - battery.discharged_kwh / 0.95 - battery.self_discharged_kwh
    assert battery.energy_kwh - start_kwh == pytest.approx(change, abs=1e-6)


def test_powers_follow_the_series() -> None:
    plant, clock = make_plant()
    run(plant, clock, 7200, dt_s=5.0)
    offered = PlainSeries(plant.site).value("pv-1", clock.now())
    assert plant.measure("pv-1", "active_power_kw") == pytest.approx(offered, rel=0.06)
    assert plant.measure("load-1", "active_power_kw") == pytest.approx(0.35 * 350.0, rel=0.06)


@pytest.mark.parametrize("site_id", ["microgrid", "hybrid-park"])
def test_every_point_of_the_grid_model_is_measured(site_id: str) -> None:
    plant, clock = make_plant(site_id)
    run(plant, clock, 5)
    for point in plant.site.points():
        value = plant.measure(point.asset_id, point.quantity)
        assert math.isfinite(value), point
        assert point.minimum <= value <= point.maximum, point


def test_nonsense_is_refused() -> None:
    plant, _ = make_plant()
    with pytest.raises(KeyError, match="nothing writable called soc"):
        plant.command("ess-1", "soc", 0.5)
    with pytest.raises(ValueError, match="nan is not a finite number"):
        plant.command("ess-1", SETPOINT, math.nan)
    with pytest.raises(KeyError, match="no quantity colour"):
        plant.measure("ess-1", "colour")
    with pytest.raises(ValueError, match="dt_s -1"):
        plant.step(-1)


def test_frequency_and_voltage_events_of_the_grid() -> None:
    plant, clock = make_plant()
    calm_hz, calm_v = plant.measure("pcc", "frequency_hz"), plant.measure("pcc", "voltage_l1_v")
    plant.faults.set(FaultRequest(target="microgrid/pcc", kind="frequency", value=-0.4, duration_s=20.0))
    plant.faults.set(FaultRequest(target="microgrid/pcc", kind="voltage", value=0.08, duration_s=20.0))
    run(plant, clock, 2)
    assert plant.measure("pcc", "frequency_hz") == pytest.approx(calm_hz - 0.4, abs=0.02)
    assert plant.measure("pcc", "voltage_l1_v") == pytest.approx(calm_v + 0.08 * 230, abs=2.0)
    run(plant, clock, 25)
    assert plant.measure("pcc", "frequency_hz") == pytest.approx(calm_hz, abs=0.05)


def test_an_exchanged_meter_starts_at_zero_once() -> None:
    plant, clock = make_plant()
    run(plant, clock, 600)
    plant.faults.set(FaultRequest(target="microgrid/pcc", kind="meter_reset"))
    before_kwh = plant.measure("pcc", "export_energy_kwh")
    run(plant, clock, 1)
    assert before_kwh > 1.0
    assert plant.measure("pcc", "export_energy_kwh") < 0.1
    run(plant, clock, 600)
    assert plant.measure("pcc", "export_energy_kwh") > 1.0


def test_an_event_without_its_value_is_refused() -> None:
    with pytest.raises(ValueError, match="frequency needs a value"):
        FaultRequest(target="microgrid/pcc", kind="frequency")


def test_a_medium_voltage_site_has_medium_voltage() -> None:
    plant, clock = make_plant("hybrid-park")
    run(plant, clock, 5)
    assert plant.measure("pcc", "voltage_l1_v") == pytest.approx(20_000 / math.sqrt(3), rel=0.05)
    assert plant.measure("load-1", "voltage_l1_v") == pytest.approx(230, rel=0.05)


def test_reactive_power_takes_what_active_power_leaves_and_moves_the_voltage() -> None:
    plant, clock = make_plant()
    run(plant, clock, 5)
    before_v, before_kvar = plant.measure("pcc", "voltage_l1_v"), plant.measure("pcc", "reactive_power_kvar")
    plant.command("ess-1", "reactive_power_setpoint_kvar", 200.0)
    run(plant, clock, 10)
    assert plant.measure("ess-1", "reactive_power_kvar") == pytest.approx(200.0)
    assert plant.measure("pcc", "reactive_power_kvar") == pytest.approx(before_kvar - 200.0, abs=5.0)
    assert plant.measure("pcc", "voltage_l1_v") > before_v
    plant.command("ess-1", SETPOINT, 250.0)
    run(plant, clock, 5)
    apparent_kva = math.hypot(plant.measure("ess-1", "active_power_kw"), plant.measure("ess-1", "reactive_power_kvar"))
    assert apparent_kva <= 1.1 * 250.0 + 1e-6
    assert plant.measure("ess-1", "active_power_kw") == pytest.approx(250.0)
    run(plant, clock, 120)
    assert plant.measure("ess-1", "reactive_power_kvar") == 0.0


def test_hot_cells_take_back_power() -> None:
    plant, clock = make_plant()
    plant.faults.set(FaultRequest(target="microgrid/ess-1", kind="hot_cells", value=30.0, duration_s=60.0))
    run(plant, clock, 2)
    assert plant.measure("ess-1", "temperature_c") == pytest.approx(50.0, abs=0.5)
    assert plant.measure("ess-1", "max_discharge_kw") == pytest.approx(125.0, rel=0.05)
    run(plant, clock, 62)
    assert plant.measure("ess-1", "temperature_c") == pytest.approx(20.0, abs=0.5)
    assert plant.measure("ess-1", "max_discharge_kw") == pytest.approx(250.0)


def test_the_three_phases_add_up_and_a_load_on_one_phase_is_there_alone() -> None:
    plant, clock = make_plant()
    run(plant, clock, 60)
    for asset_id in ("load-1", "pcc"):
        phases = [plant.measure(asset_id, f"active_power_l{i}_kw") for i in (1, 2, 3)]
        assert sum(phases) == pytest.approx(plant.measure(asset_id, "active_power_kw"))
        assert max(phases) > min(phases)
    reactive = [plant.measure("pcc", f"reactive_power_l{i}_kvar") for i in (1, 2, 3)]
    assert sum(reactive) == pytest.approx(plant.measure("pcc", "reactive_power_kvar"))
    load = next(load for load in plant.site.loads if load.id == "load-1")
    alone = load.model_copy(update={"phase_connection": "L2"})
    site = plant.site.model_copy(update={"loads": (alone,)})
    single = Plant(site, PlainSeries(site), clock, 1)
    assert single.measure("load-1", "active_power_l1_kw") == 0.0
    assert single.measure("load-1", "active_power_l2_kw") == single.measure("load-1", "active_power_kw") > 0


def test_a_dip_on_one_phase_leaves_the_others_alone() -> None:
    plant, clock = make_plant()
    run(plant, clock, 2)
    plant.faults.set(FaultRequest(target="microgrid/pcc", kind="voltage", value=-0.3, phase=2))
    run(plant, clock, 1)
    assert plant.measure("pcc", "voltage_l2_v") == pytest.approx(0.7 * 230, abs=8)
    for phase in (1, 3):
        assert plant.measure("pcc", f"voltage_l{phase}_v") == pytest.approx(230, abs=12)


def test_the_battery_management_says_why_it_takes_back_power() -> None:
    plant, clock = make_plant()
    battery = plant.batteries["ess-1"]

    def bits() -> set[int]:
        run(plant, clock, 1)
        word = int(plant.measure("ess-1", "bms_alarm_word"))
        return {bit for bit in range(31) if word >> bit & 1}

    def fail(kind: str, value: float | None = None) -> None:
        plant.faults.clear()
        plant.faults.set(FaultRequest.model_validate({"target": "microgrid/ess-1", "kind": kind, "value": value}))

    assert bits() == set()
    fail("bms_trip")
    assert bits() == {22}
    fail("bms_alarm", 21.0)
    assert bits() == {21}
    fail("hot_cells", 28.0)
    assert bits() == {2}
    fail("hot_cells", 40.0)
    assert bits() == {1}
    assert plant.measure("ess-1", "available") == 0.0
    fail("hot_cells", -21.0)
    assert bits() == {3}
    assert plant.measure("ess-1", "max_charge_kw") == 0.0 < plant.measure("ess-1", "max_discharge_kw")
    plant.faults.clear()
    battery.energy_kwh = 0.02 * battery.usable_capacity_kwh
    assert bits() == {14}
    with pytest.raises(ValueError, match=r"bms_alarm: value 31 is no bit number of 0\.\.30"):
        fail("bms_alarm", 31.0)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31), commands)
def test_the_same_seed_and_orders_give_the_same_day(
    seed: int, orders: list[tuple[tuple[str, str], float, int]]
) -> None:
    days = []
    for _ in range(2):
        plant, clock = make_plant(seed=seed)
        waiting = list(orders)
        states = []
        for _ in range(96):
            if waiting:
                (asset_id, quantity), value, _ = waiting.pop()
                plant.command(asset_id, quantity, value)
            run(plant, clock, 900, dt_s=30.0)
            states.append(plant.state())
        days.append(states)
    assert days[0] == days[1]

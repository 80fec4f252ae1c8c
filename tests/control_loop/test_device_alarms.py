"""Alarms that devices report themselves: the operator sees each, and what they forbid is not commanded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_loop.alarms import OF_DEVICE, cycle_alarms, is_own
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.engine import decide
from control_loop.model import SiteModel
from control_loop.requests import Layer
from control_loop.site_model import model_of
from flexergy_pipelines.grid import load_template
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.grid.templates.alarm_words import alarm_word_names, load_alarm_word, standing_bits
from flexergy_pipelines.grid.templates.model import DeviceTemplate
from plant_simulator.faults import FaultRequest
from plant_simulator.plant import Plant
from tests.control_loop.harness import ESS, MODEL, NOW, PV, SETPOINT, plan_of, situation
from tests.control_loop.test_closed_loop_day import PlantDriver
from tests.plant_simulator.fakes import PlainSeries

BATTERY = load_alarm_word("battery_events")
WORD = "bms_alarm_word"


def with_words(model: SiteModel) -> SiteModel:
    words = ((WORD, BATTERY),)
    return replace(model, actuators=tuple(replace(a, alarm_words=words) for a in model.actuators))


CASES: list[tuple[list[int], float, float, dict[str, int]]] = [
    ([], 20.0, 20.0, {}),
    ([2], 20.0, 20.0, {"device_over_temperature_warning": 3}),  # a warning only tells
    ([1], 20.0, 0.0, {"device_over_temperature": 1}),
    ([3], 20.0, 20.0, {"device_under_temperature": 2}),  # too cold may discharge
    ([3], -20.0, 0.0, {"device_under_temperature": 2}),
    ([11], 20.0, 0.0, {"device_under_voltage": 1}),
    ([11], -20.0, -20.0, {"device_under_voltage": 1}),  # an empty cell may be charged
    ([22], -20.0, 0.0, {"device_ground_fault": 1}),
    ([9, 11], 20.0, 0.0, {"device_over_voltage": 1, "device_under_voltage": 1}),
    ([30], 20.0, 20.0, {}),  # a bit that means nothing
]
TEMPERATURES = [
    (47.9, 20.0, 20.0), (49.0, 20.0, 20.0), (49.9, 20.0, 5.0), (49.9, -20.0, -5.0), (50.0, 20.0, 0.0),
    (60.0, 20.0, 0.0), (-9.9, 20.0, 5.0), (-11.0, -20.0, 0.0),
]  # fmt: skip


@pytest.mark.requirement("energy.07.2")
@pytest.mark.parametrize(("bits", "wish", "told", "codes"), CASES)
def test_an_alarm_word_is_told_bit_by_bit_and_obeyed(
    bits: list[int], wish: float, told: float, codes: dict[str, int]
) -> None:
    word = float(sum(1 << bit for bit in bits))
    context = situation({f"ess-1.{WORD}": word}, plan={f"ess-1.{SETPOINT}": wish}, model=with_words(MODEL))
    decision = decide(context).decisions["ess-1"]
    assert decision.value == told
    if told != wish:
        assert decision.layer is Layer.PROTECTION
        assert decision.reason.startswith("device's alarm: ")
    alarms = cycle_alarms(context, {}, {}, {})
    assert {c: a.severity for (c, asset), a in alarms.items() if asset == "ess-1" and c.startswith(OF_DEVICE)} == codes
    assert all(is_own(code) for code, _ in alarms)


def test_an_alarm_overrides_the_operator_and_a_source_with_one_gives_nothing() -> None:
    context = situation({f"pv-1.{WORD}": float(1 << 22)}, model=with_words(MODEL))
    assert decide(context).decisions[PV.asset_id].value == 0.0


@pytest.mark.parametrize("word", [None, float("nan"), -1.0, 2.5])
def test_a_word_that_cannot_be_read_says_nothing(word: float | None) -> None:
    context = situation({f"ess-1.{WORD}": word}, plan={f"ess-1.{SETPOINT}": 20.0}, model=with_words(MODEL))
    assert decide(context).decisions["ess-1"].value == 20.0
    assert not any(code.startswith(OF_DEVICE) for code, _ in cycle_alarms(context, {}, {}, {}))


@pytest.mark.parametrize(("temperature_c", "wish", "told"), TEMPERATURES)
def test_cells_near_the_end_of_their_temperature_range_get_less_power(
    temperature_c: float, wish: float, told: float
) -> None:
    storage = replace(ESS.storage, temperature_min_c=-10.0, temperature_max_c=50.0) if ESS.storage else None
    model = replace(MODEL, actuators=(replace(ESS, storage=storage), *MODEL.actuators[1:]))
    context = situation({"ess-1.temperature_c": temperature_c}, plan={f"ess-1.{SETPOINT}": wish}, model=model)
    assert decide(context).decisions["ess-1"].value == pytest.approx(told)


@pytest.mark.requirement("energy.07.2")
def test_a_simulated_batterys_ground_fault_is_alarmed_and_ends() -> None:
    site = sample_site("microgrid")
    clock = SimulatedClock(NOW)
    plant = Plant(site, PlainSeries(site), clock, 7)
    drivers = [
        PlantDriver(d.id, plant, tuple((p.asset_id, p.quantity) for p in site.points() if p.asset_id in ids))
        for d in site.devices()
        if (ids := {asset.id for asset in d.assets})
    ]
    cycle = ControlCycle(model_of(site), drivers, clock)
    cycle.plan = plan_of({f"ess-1.{SETPOINT}": 40.0})

    async def after(seconds: int) -> CycleReport:
        reports: list[CycleReport] = []
        for _ in range(seconds):
            reports.append(await cycle.run_once(clock.now()))
            clock.advance(1.0)
            plant.step(1.0)
        return reports[-1]

    async def run() -> None:
        assert (await after(8)).decisions["ess-1"].value == 40.0
        fault = plant.faults.set(FaultRequest(target="microgrid/ess-1", kind="bms_alarm", value=22.0))
        report = await after(2)
        assert report.decisions["ess-1"].value == 0.0
        assert report.alarms["device_ground_fault", "ess-1"].message == "ess-1: ground fault; it is told 0 kW"
        plant.faults.clear(fault.fault_id)
        report = await after(8)
        assert report.decisions["ess-1"].value == 40.0
        assert ("device_ground_fault", "ess-1") not in report.alarms

    asyncio.run(run())


def test_templates_name_alarm_words_that_exist_and_points_they_have() -> None:
    assert "battery_events" in alarm_word_names()
    assert (
        load_template("generic_esc").alarm_words
        == load_template("sunspec_storage").alarm_words
        == {WORD: "battery_events"}
    )
    good = load_template("generic_esc").model_dump()
    with pytest.raises(ValueError, match="alarm_words: state is no point"):
        DeviceTemplate.model_validate(good | {"alarm_words": {"state": "battery_events"}})
    with pytest.raises(ValueError, match="alarm word nope is unknown, known are battery_events"):
        DeviceTemplate.model_validate(good | {"alarm_words": {WORD: "nope"}})


def test_each_bit_of_a_word_is_found_by_its_number() -> None:
    for bit in BATTERY:
        assert standing_bits(BATTERY, float(1 << bit.bit)) == (bit,)
    assert standing_bits(BATTERY, float(2**31 - 1)) == BATTERY

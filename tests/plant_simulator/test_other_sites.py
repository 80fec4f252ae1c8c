"""Plants of sites that differ from the samples: single-phase chargers, islands, 60 Hz, what is out of service."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flexergy_pipelines.grid import SimulatedClock, Site
from flexergy_pipelines.grid.ratings import rated_power_kw
from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.dlms_meter import DlmsMeter
from plant_simulator.plant import Plant
from plant_simulator.usual_series import with_usual_series
from tests.plant_simulator.fakes import START, PlainSeries, run

SETPOINT = "active_power_setpoint_kw"


def changed(change: Callable[[dict[str, Any]], None]) -> tuple[Plant, SimulatedClock]:
    """The microgrid's plant after a change of its configuration."""
    content = sample_site("microgrid").model_dump(mode="json")
    change(content)
    site = Site.model_validate(content)
    clock = SimulatedClock(START)
    return Plant(site, PlainSeries(site), clock, 1), clock


def controller(content: dict[str, Any], controller_id: str) -> dict[str, Any]:
    return next(one for one in content["controllers"] if one["id"] == controller_id)


def test_a_single_phase_charger_loads_its_phase_alone() -> None:
    def single(content: dict[str, Any]) -> None:
        for point in controller(content, "ev-1")["charge_points"]:
            point |= {"phases": 1, "phase_connection": "L3", "max_kw": 7.4, "connectors": []}

    plant, clock = changed(single)
    even, even_clock = changed(lambda _: None)
    run(plant, clock, 60)
    run(even, even_clock, 60)
    charging_kw = plant.measure("ev-1", "active_power_kw")
    assert charging_kw > 15
    moved = [
        plant.measure("pcc", f"active_power_l{i}_kw") - even.measure("pcc", f"active_power_l{i}_kw") for i in (1, 2, 3)
    ]
    assert moved[2] > 0.5 * charging_kw
    assert moved[0] < -0.2 * charging_kw
    assert sum(plant.measure("pcc", f"active_power_l{i}_kw") for i in (1, 2, 3)) == pytest.approx(
        plant.measure("pcc", "active_power_kw")
    )
    # The same seed makes the same noise, so what the phase carries is what its voltage loses.
    assert plant.measure("pcc", "voltage_l3_v") < even.measure("pcc", "voltage_l3_v") - 0.1
    assert plant.measure("pcc", "voltage_l1_v") > even.measure("pcc", "voltage_l1_v") + 0.1


def test_a_dlms_meter_shows_the_phases_that_its_load_stands_on() -> None:
    def on_one(content: dict[str, Any]) -> None:
        content["loads"][0]["phase_connection"] = "L2"

    plant, clock = changed(on_one)
    run(plant, clock, 5)
    meter = DlmsMeter(next(d for d in plant.site.devices() if d.id == "load-meter"), plant)
    watts = [int.from_bytes(meter.read(f"1.0.{20 * n + 1}.7.0.255", 2)[1:], "big", signed=True) for n in (1, 2, 3)]
    assert watts == [0, pytest.approx(1000 * plant.measure("load-1", "active_power_kw"), abs=1), 0]


def test_a_site_that_may_not_exchange_has_a_sound_voltage() -> None:
    def island(content: dict[str, Any]) -> None:
        content["grid_connection"] |= {"import_limit_kw": 0.0, "export_limit_kw": 0.0}

    plant, clock = changed(island)
    run(plant, clock, 30)
    assert abs(plant.measure("pcc", "active_power_kw")) > 10  # nobody controls it yet
    for phase in (1, 2, 3):
        assert plant.measure("pcc", f"voltage_l{phase}_v") == pytest.approx(230.0, rel=0.05)


def test_a_60_hz_network_has_60_hz() -> None:
    plant, clock = changed(lambda content: content["grid_connection"].update(nominal_frequency_hz=60.0))
    run(plant, clock, 30)
    assert plant.measure("pcc", "frequency_hz") == pytest.approx(60.0, abs=0.2)


def test_what_is_not_in_service_stands_still() -> None:
    def out(content: dict[str, Any]) -> None:
        for name in ("esc-1", "res-1", "genset-ctl-1"):
            for assets in ("ess", "sources", "gensets"):
                for asset in controller(content, name).get(assets, []):
                    asset["in_service"] = False

    plant, clock = changed(out)
    for asset_id in ("ess-1", "genset-1"):
        plant.command(asset_id, SETPOINT, 50.0)
    run(plant, clock, 30)
    for asset_id in ("ess-1", "pv-1", "wind-1", "genset-1"):
        assert plant.measure(asset_id, "active_power_kw") == 0.0
    assert plant.measure("load-1", "active_power_kw") > 0.0


def test_reactive_power_reaches_as_far_as_the_nameplate_says() -> None:
    def strong(content: dict[str, Any]) -> None:
        controller(content, "res-1")["sources"][0]["apparent_power_kva"] = 600.0

    plant, clock = changed(strong)
    plant.command("pv-1", "reactive_power_setpoint_kvar", 1000.0)
    run(plant, clock, 10)
    active_kw = plant.measure("pv-1", "active_power_kw")
    assert plant.measure("pv-1", "reactive_power_kvar") == pytest.approx(math.sqrt(600.0**2 - active_kw**2), rel=0.02)


def test_a_site_that_names_no_series_gets_usual_ones_by_kind_and_rating() -> None:
    sample = sample_site("microgrid")
    site, added = with_usual_series(sample.model_copy(update={"replay": None}))
    assert set(added) == {"pv-1", "wind-1", "cold-store", "ev-1", "load-1"}
    replayed = ReplayedSite(site, ReplayRule.for_now(START, site.zone))
    end = START + timedelta(days=7)
    for asset_id in added:
        week = replayed.series(asset_id, START, end)["value"]
        rated_kw = rated_power_kw(site.asset(asset_id))
        assert week.null_count() == 0
        assert 0.0 <= week.min() <= week.max() <= rated_kw + 1e-6  # pyright: ignore[reportOperatorIssue]
        assert week.max() > 0.2 * rated_kw  # pyright: ignore[reportOperatorIssue]


def test_series_that_the_site_names_stay_and_only_the_missing_are_added() -> None:
    sample = sample_site("microgrid")
    assert with_usual_series(sample) == (sample, ())
    assert sample.replay is not None
    kept = tuple(series for series in sample.replay.series if series.asset != "load-1")
    site, added = with_usual_series(
        sample.model_copy(update={"replay": sample.replay.model_copy(update={"series": kept})})
    )
    assert added == ("load-1",)
    assert site.replay is not None
    assert site.replay.series[:-1] == kept
    alone = sample.model_copy(update={"replay": None, "controllers": (), "loads": ()})
    with pytest.raises(ValueError, match="site microgrid has nothing that produces or consumes by itself"):
        with_usual_series(alone)

"""What the main meter shows against what can be: the grid's voltage and frequency, and the sum of the assets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_loop.plausibility import DISAGREEMENT_S, MeterWatch
from control_loop.site_model import model_of
from flexergy_pipelines.grid.samples import sample_site
from tests.control_loop.harness import MODEL, MONOTONIC, situation

SIGNS = (("ess-1", -1.0), ("pv-1", -1.0), ("genset-1", -1.0), ("cold", 1.0), ("ev-1", 1.0), ("hall", 1.0))
METERED = replace(MODEL, metered=("hall",), balance=SIGNS, nominal_v=230.0, nominal_hz=50.0)


@pytest.mark.parametrize(("shown_kw", "apart"), [(20.0, False), (32.0, False), (200.0, True), (-20.0, True)])
def test_a_meter_that_contradicts_the_assets_is_told_but_not_for_a_moment(shown_kw: float, *, apart: bool) -> None:
    # The assets add up to 20 kW; a tenth of the larger limit is 15 kW.
    watch, found = MeterWatch(), []
    for _ in range(int(DISAGREEMENT_S) + 2):
        context = situation({"hall.active_power_kw": 20.0, "pcc.active_power_kw": shown_kw}, model=METERED)
        found.append(("meter_disagrees", "pcc") in watch.update(context))
        watch._since = None if watch._since is None else watch._since - 1.0  # a second passes
    assert not any(found[: int(DISAGREEMENT_S)])
    assert found[-1] is apart


def test_what_is_unknown_or_not_metered_contradicts_nobody() -> None:
    watch = MeterWatch()
    watch._since = MONOTONIC - 100.0
    lost = situation({"hall.active_power_kw": None, "pcc.active_power_kw": 200.0}, model=METERED)
    assert watch.update(lost) == {}
    watch._since = MONOTONIC - 100.0
    unmetered = situation({"pcc.active_power_kw": 140.0}, model=replace(METERED, balance=()))
    assert watch.update(unmetered) == {}


def test_a_grid_out_of_its_bounds_is_told_with_phase_value_and_range() -> None:
    def told(values: dict[str, float | None]) -> dict[str, str]:
        context = situation({"hall.active_power_kw": 20.0, **values}, model=METERED)
        return {code: alarm.message for (code, _), alarm in MeterWatch().update(context).items()}

    good: dict[str, float | None] = {f"pcc.voltage_l{phase}_v": 230.0 for phase in (1, 2, 3)}
    assert told({**good, "pcc.frequency_hz": 50.2}) == {}
    assert told({**good, "pcc.voltage_l2_v": 160.0, "pcc.voltage_l3_v": 254.0}) == {
        "grid_voltage_off": "pcc: the grid's voltage is outside 207..253 V: L2 160 V, L3 254 V"
    }
    assert told({**good, "pcc.frequency_hz": 49.4}) == {
        "grid_frequency_off": "pcc: the grid's frequency of 49.40 Hz is outside 49.5..50.5 Hz"
    }
    assert told({"pcc.voltage_l1_v": None}) == {}


def test_a_site_says_what_its_grid_is_meant_to_have() -> None:
    model = model_of(sample_site("microgrid"))
    assert (round(model.nominal_v), model.nominal_hz) == (231, 50.0)
    assert dict(model.balance) == {
        "ess-1": -1.0, "pv-1": -1.0, "wind-1": -1.0, "genset-1": -1.0, "cold-store": 1.0, "ev-1": 1.0, "load-1": 1.0
    }  # fmt: skip

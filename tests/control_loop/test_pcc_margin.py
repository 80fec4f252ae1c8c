"""The margin of the connection's limits: as wide as the exchange moves by itself, wider once it is outside."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from control_loop.engine import decide
from tests.control_loop.harness import situation
from tests.control_loop.test_cycle import Bench


@pytest.mark.requirement("energy.14.6")
@pytest.mark.parametrize(
    ("import_kw", "noise_kw", "discharge_kw"),
    [
        pytest.param(149.9, 0.0, 1.4, id="1 % of the limit where nothing moves"),
        pytest.param(149.9, 1.0, 2.4, id="2.5 standard deviations"),
        pytest.param(150.5, 1.0, 5.5, id="twice that once it is outside"),
        pytest.param(150.5, 9.0, 15.5, id="at most 10 % of the limit then"),
        pytest.param(149.9, math.inf, 7.4, id="5 % while it is not known"),
    ],
)
def test_the_margin_grows_with_what_moves_by_itself(import_kw: float, noise_kw: float, discharge_kw: float) -> None:
    context = replace(situation({"pcc.active_power_kw": import_kw}), exchange_noise_kw=noise_kw)
    assert decide(context).decisions["ess-1"].value == pytest.approx(discharge_kw)


def test_just_after_a_start_the_margin_is_the_widest() -> None:
    bench = Bench()
    bench.rest.values["pcc", "active_power_kw"] = 149.9
    assert bench.run(1)[0].decisions["ess-1"].value == pytest.approx(7.4)

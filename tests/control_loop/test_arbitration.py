"""The one rule: the highest priority wins, clipped to what the higher ones left feasible."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_loop.arbitration import arbitrate
from control_loop.requests import Layer, Request

power = st.floats(-500, 500)


def request(layer: Layer, value: float | None = None, low: float | None = None, high: float | None = None) -> Request:
    return Request(layer, "a", value, low, high, layer.label)


CASES = [
    ("nobody asks", [], 0.0, Layer.IDLE),
    ("the plan asks", [request(Layer.PLAN, 40)], 40.0, Layer.PLAN),
    ("the operator outranks the plan", [request(Layer.PLAN, 40), request(Layer.OPERATOR, -20)], -20.0, Layer.OPERATOR),
    ("a limit clips what ranks below", [request(Layer.PLAN, 40), request(Layer.PCC, high=25)], 25.0, Layer.PCC),
    ("a limit does not touch what ranks above", [request(Layer.EMERGENCY_STOP, 0), request(Layer.PCC, low=9)], 0.0,
     Layer.EMERGENCY_STOP),
    ("a lower limit cannot undo a higher one", [request(Layer.PLAN, 0), request(Layer.PROTECTION, high=10),
     request(Layer.PCC, low=30)], 10.0, Layer.PCC),
    ("limits of one layer count before its value", [request(Layer.OPERATOR, 50), request(Layer.OPERATOR, high=20)],
     20.0, Layer.OPERATOR),
    ("the nameplate is never left", [request(Layer.EMERGENCY_STOP, 900)], 100.0, Layer.PROTECTION),
    ("a number that is none is no wish", [request(Layer.OPERATOR, math.nan), request(Layer.PLAN, 5)], 5.0, Layer.PLAN),
    ("no reading of a limit is no zero", [request(Layer.PROTECTION, high=math.nan), request(Layer.PLAN, 5)], 5.0,
     Layer.PLAN),
    ("the first of two equal ones wins", [request(Layer.OPERATOR, 1), request(Layer.OPERATOR, 2)], 1.0, Layer.OPERATOR),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "value", "layer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_rule(requests: list[Request], value: float, layer: Layer) -> None:
    decision = arbitrate(-100, 100, requests, 0.0)
    assert decision.value == value
    assert decision.layer is layer


def test_a_request_ends_at_its_expiry() -> None:
    wish = Request(Layer.OPERATOR, "a", value=30.0, expires=10.0)
    assert arbitrate(-100, 100, [wish], 9.9).value == 30.0
    assert arbitrate(-100, 100, [wish], 10.0).value == 0.0


requests = st.lists(
    st.builds(
        Request,
        layer=st.sampled_from(Layer),
        asset_id=st.just("a"),
        value=st.none() | power,
        minimum=st.none() | power,
        maximum=st.none() | power,
    ),
    max_size=8,
)


@given(requests, st.randoms(use_true_random=False))
def test_order_of_arrival_changes_nothing_between_layers(some: list[Request], rng: random.Random) -> None:
    one_each = list({r.layer: r for r in some}.values())
    shuffled = rng.sample(one_each, len(one_each))
    assert arbitrate(-100, 100, one_each, 0.0) == arbitrate(-100, 100, shuffled, 0.0)


@given(requests)
def test_the_highest_limits_hold_whatever_ranks_below(some: list[Request]) -> None:
    low, high = -50.0, 20.0
    below = [r for r in some if r.layer > Layer.PROTECTION]
    decision = arbitrate(-100, 100, [Request(Layer.PROTECTION, "a", None, low, high), *below], 0.0)
    assert low <= decision.value <= high
    assert decision.hard_lower <= decision.value <= decision.hard_upper

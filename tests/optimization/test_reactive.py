"""Reactive power: requirement of the system operator, and its sharing within every inverter's circle."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.optimization import ProblemError
from flexergy_pipelines.optimization.reactive import CurvePoint, ReactiveRequirement, ReactiveUnit, share_reactive

Q_OF_U = ReactiveRequirement(
    mode="q_of_u",
    rated_kw=100.0,
    curve=tuple(CurvePoint(at=at, reactive=q) for at, q in ((0.93, 0.4), (0.97, 0.0), (1.03, 0.0), (1.07, -0.4))),
)


@pytest.mark.requirement("energy.12.4")
@pytest.mark.parametrize(
    ("requirement", "active", "voltage", "expected"),
    [
        (ReactiveRequirement(mode="fixed", fixed_kvar=-25.0), 80.0, 1.0, -25.0),
        (ReactiveRequirement(mode="cos_phi", cos_phi=0.8), 80.0, 1.0, 60.0),
        (ReactiveRequirement(mode="cos_phi", cos_phi=0.8, supplies=False), -40.0, 1.0, -30.0),
        (Q_OF_U, 80.0, 0.90, 40.0),
        (Q_OF_U, 80.0, 0.95, 20.0),
        (Q_OF_U, 80.0, 1.00, 0.0),
        (Q_OF_U, 80.0, 1.05, -20.0),
        (
            ReactiveRequirement(
                mode="q_of_p",
                rated_kw=200.0,
                curve=(CurvePoint(at=0.5, reactive=0.0), CurvePoint(at=1.0, reactive=-0.33)),
            ),
            150.0,
            1.0,
            -33.0,
        ),
    ],
)
def test_requirement(requirement, active, voltage, expected):
    assert requirement.required_kvar(active, voltage) == pytest.approx(expected)


units = st.builds(
    lambda k, s, p, share, ok: ReactiveUnit(
        id=f"u{k}", apparent_power_kva=s, active_power_kw=p * s, max_reactive_share=share, available=ok
    ),
    st.integers(0, 10**6),
    st.floats(0, 500),
    st.floats(-1.2, 1.2),
    st.floats(0, 1),
    st.booleans(),
)


@pytest.mark.requirement("energy.12.4", "energy.15.2", "energy.15.4")
@given(required=st.floats(-1000, 1000), park=st.lists(units, max_size=6, unique_by=lambda unit: unit.id))
def test_sharing_meets_what_is_asked_as_far_as_the_units_can(required, park):
    plan = share_reactive(required, park)
    able = sum(unit.capability_kvar for unit in park)
    given_kvar = sum(plan.setpoints_kvar.values())
    assert given_kvar + plan.shortfall_kvar == pytest.approx(required, abs=1e-6)
    assert abs(plan.shortfall_kvar) == pytest.approx(max(abs(required) - able, 0.0), abs=1e-6)
    for unit in park:
        reactive = plan.setpoints_kvar[unit.id]
        if not unit.available:
            assert reactive == 0.0
        if abs(unit.active_power_kw) <= unit.apparent_power_kva:
            assert math.hypot(unit.active_power_kw, reactive) <= unit.apparent_power_kva * (1 + 1e-9) + 1e-9


def test_a_curve_that_does_not_ascend_is_refused():
    with pytest.raises(ProblemError, match="curve needs at least 2 points"):
        ReactiveRequirement(mode="q_of_u", rated_kw=1.0, curve=(CurvePoint(at=1.0, reactive=0.0),))

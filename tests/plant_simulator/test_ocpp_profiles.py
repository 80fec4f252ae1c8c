"""Charging profiles: which limit holds when several are installed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plant_simulator.ocpp_profiles import ProfileStack, Transaction

NOW = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)
TX = Transaction(7, NOW - timedelta(minutes=20))


def profile(
    number: int, purpose: str, limit_w: float, level: int = 0, kind: str = "Absolute", **more: Any
) -> dict[str, Any]:
    schedule = {
        "charging_rate_unit": "W",
        "charging_schedule_period": [{"start_period": 0, "limit": limit_w}],
        "start_schedule": "2026-06-03T00:00:00Z",
    }
    schedule |= more.pop("schedule", {})
    return {
        "charging_profile_id": number,
        "stack_level": level,
        "charging_profile_purpose": purpose,
        "charging_profile_kind": kind,
        "charging_schedule": schedule,
        **more,
    }


def stack_of(*installed: tuple[int, dict[str, Any]]) -> ProfileStack:
    stack = ProfileStack()
    for connector_id, one in installed:
        assert stack.install(connector_id, one, TX)
    return stack


def test_without_profiles_nothing_limits() -> None:
    assert ProfileStack().limit_kw(NOW, TX) is None


def test_the_transactions_profile_goes_before_the_default_and_the_maximum_bounds_both() -> None:
    stack = stack_of(
        (1, profile(1, "TxDefaultProfile", 9000.0)),
        (1, profile(2, "TxProfile", 7000.0)),
        (0, profile(3, "ChargePointMaxProfile", 8000.0)),
    )
    assert stack.limit_kw(NOW, TX) == 7.0
    stack.clear(profile_id=2)
    assert stack.limit_kw(NOW, TX) == 8.0
    stack.clear(purpose="ChargePointMaxProfile")
    assert stack.limit_kw(NOW, TX) == 9.0
    assert stack.limit_kw(NOW, None) is None


def test_the_highest_stack_level_that_has_a_period_now_counts() -> None:
    stack = stack_of(
        (1, profile(1, "TxDefaultProfile", 9000.0, level=0)),
        (1, profile(2, "TxDefaultProfile", 3000.0, level=5, valid_to="2026-06-03T11:00:00Z")),
    )
    assert stack.limit_kw(NOW, TX) == 3.0
    assert stack.limit_kw(NOW + timedelta(hours=1), TX) == 9.0


def test_periods_durations_amperes_and_recurrence() -> None:
    periods = [{"start_period": 0, "limit": 16.0}, {"start_period": 3600, "limit": 10.0, "number_phases": 1}]
    daily = profile(
        1, "TxDefaultProfile", 0.0, kind="Recurring", recurrency_kind="Daily",
        schedule={
            "charging_rate_unit": "A", "charging_schedule_period": periods,
            "start_schedule": "2026-05-01T10:00:00Z", "duration": 7200,
        },
    )  # fmt: skip
    stack = stack_of((1, daily))
    assert stack.limit_kw(NOW, TX) == pytest.approx(16 * 230 * 3 / 1000)
    assert stack.limit_kw(NOW + timedelta(hours=1), TX) == pytest.approx(2.3)
    assert stack.limit_kw(NOW + timedelta(hours=2), TX) is None
    assert stack.limit_kw(NOW + timedelta(days=1), TX) == pytest.approx(16 * 230 * 3 / 1000)


def test_a_relative_profile_counts_from_the_transactions_start() -> None:
    periods = [{"start_period": 0, "limit": 5000.0}, {"start_period": 1500, "limit": 2000.0}]
    relative = profile(1, "TxProfile", 0.0, kind="Relative", schedule={"charging_schedule_period": periods})
    stack = stack_of((1, relative))
    assert stack.limit_kw(NOW, TX) == 5.0
    assert stack.limit_kw(NOW + timedelta(minutes=10), TX) == 2.0
    stack.end_transaction()
    assert len(stack) == 0


@pytest.mark.parametrize(
    ("connector_id", "one", "transaction"),
    [
        (2, profile(1, "TxDefaultProfile", 1.0), TX),
        (1, profile(1, "ChargePointMaxProfile", 1.0), TX),
        (1, profile(1, "TxProfile", 1.0), None),
        (1, profile(1, "TxProfile", 1.0, transaction_id=8), TX),
        (1, profile(1, "TxDefaultProfile", 1.0, level=10), TX),
        (1, profile(1, "TxDefaultProfile", 1.0, schedule={"charging_schedule_period": []}), TX),
    ],
)
def test_what_cannot_hold_is_refused(connector_id: int, one: dict[str, Any], transaction: Transaction | None) -> None:
    assert not ProfileStack().install(connector_id, one, transaction)


def test_a_profile_replaces_its_equal() -> None:
    stack = stack_of((1, profile(1, "TxDefaultProfile", 9000.0)), (1, profile(2, "TxDefaultProfile", 4000.0)))
    assert len(stack) == 1
    assert stack.limit_kw(NOW, TX) == 4.0

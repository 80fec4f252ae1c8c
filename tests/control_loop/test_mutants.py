"""A guard that is broken by hand is noticed: by the tables of its rules, by its own tests, or by the storm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from control_loop import exchange, following, frequency, frozen, image, limits, mode, reactive, voting
from tests.control_loop import (
    test_device_alarms,
    test_frozen,
    test_grid_orders,
    test_grid_services,
    test_modes,
    test_source_time,
    test_voting,
)
from tests.control_loop.harness import decisions, situation
from tests.control_loop.mutants import MUTANTS, Mutant, broken
from tests.control_loop.storm import weather
from tests.control_loop.test_rules import CASES, PCC_CASES

SEEDS = 24


def tables_notice() -> bool:
    """Whether a row of the tables comes out differently."""
    for case in [*CASES, *PCC_CASES]:
        decided = decisions(situation(**case.given))
        if any(decided[name].value != pytest.approx(value, abs=0.11) for name, value in case.expected.items()):
            return True
    return False


def orders() -> None:
    for case in test_grid_orders.CASES:
        test_grid_orders.test_power_by_frequency(case)
    for rule, given, value, layer in test_grid_orders.REACTIVE_CASES:
        test_grid_orders.test_reactive_power(rule, given, value, layer)
    test_grid_orders.test_the_answer_takes_the_time_it_may_and_ends_well_inside()
    test_grid_orders.test_reactive_power_goes_to_the_device_and_is_checked_there()


def device_alarms() -> None:
    for case in test_device_alarms.CASES:
        test_device_alarms.test_an_alarm_word_is_told_bit_by_bit_and_obeyed(*case)
    for temperature in test_device_alarms.TEMPERATURES:
        test_device_alarms.test_cells_near_the_end_of_their_temperature_range_get_less_power(*temperature)


def modes() -> None:
    peak = mode.Mode("peak_shaving", {"import_kw": 25.0})
    test_modes.test_each_mode_does_what_it_says(peak, 60.0, 25.0)
    test_modes.test_each_mode_does_what_it_says(peak, 30.0, 10.0)
    test_modes.test_each_mode_does_what_it_says(replace(peak, month_peak_kw=32.0), 60.0, 32.0)
    test_modes.test_a_mode_ranks_below_the_operator_and_above_the_plan_and_says_why()


def zero_flow() -> None:
    test_grid_services.test_zero_flow_is_reached_and_held_against_steps_of_the_load(5, 1.0)
    test_grid_services.test_a_device_that_does_not_follow_is_not_waited_for_with_a_wound_up_setpoint()


def standing_still() -> None:
    test_frozen.test_a_meter_that_repeats_itself_is_lost_and_the_site_goes_to_safe_values()
    test_frozen.test_sooner_when_the_site_moved_meanwhile()
    test_frozen.test_a_battery_whose_charge_stands_still_under_load_is_not_charged_on()
    test_frozen.test_a_source_that_repeats_itself_is_noticed_unless_its_limit_holds_it()


def votes() -> None:
    for case in test_voting.CASES:
        test_voting.test_the_majority_of_all_configured_instances_decides(*case)
    for way in test_voting.WAYS:
        test_voting.test_without_a_majority_the_way_leads_to_the_safe_value_and_never_up(*way)
    test_voting.test_the_values_of_several_actuators_come_from_one_instance()


TESTS: dict[ModuleType, list[Callable[[], None]]] = {
    frequency: [orders],
    limits: [device_alarms],
    reactive: [orders],
    mode: [modes],
    exchange: [modes, zero_flow],
    frozen: [standing_still],
    image: [standing_still, test_source_time.test_nothing_is_controlled_by_the_past_and_history_keeps_its_time],
    voting: [votes],
    following: [test_frozen.test_a_battery_that_takes_a_setpoint_and_does_nothing_raises_an_alarm],
}


def own_tests_notice(mutant: Mutant) -> bool:
    """Whether one of the tests of the mutant's module fails."""
    for test in TESTS.get(mutant.module, []):
        try:
            test()
        except (AssertionError, LookupError, StopIteration, TypeError, ValueError):
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{i:02d} {mutant.name}" for i, mutant in enumerate(MUTANTS)])
def test_a_broken_guard_is_noticed(mutant: Mutant) -> None:
    with broken(mutant):
        noticed = tables_notice() or own_tests_notice(mutant) or any(weather(seed, 120) for seed in range(SEEDS))
        assert noticed, "no test would notice this mutant"


def test_nothing_is_noticed_while_the_guards_stand() -> None:
    assert not tables_notice()
    for tests in TESTS.values():
        for test in tests:
            test()
    assert not any(weather(seed, 120) for seed in range(SEEDS))

"""A guard that is broken by hand is noticed: by the tables of its rules, by its own tests, or by the storm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from control_loop import (
    contingency,
    dispatch,
    droop,
    engine,
    exchange,
    exchange_noise,
    following,
    frequency,
    frozen,
    grid_orders,
    image,
    limits,
    load_rules,
    meter_lag,
    mode,
    pcc,
    reactive,
    schedule,
    voting,
)
from control_loop.requests import Layer
from tests.control_loop import (
    test_cycle,
    test_device_alarms,
    test_frozen,
    test_grid_operator,
    test_grid_orders,
    test_grid_services,
    test_load_rules,
    test_meter_lag,
    test_modes,
    test_pcc_margin,
    test_rules,
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
    test_grid_orders.test_a_voltage_that_flickers_within_the_hysteresis_moves_nothing()


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
    test_frozen.test_a_full_battery_that_takes_its_own_losses_and_a_meter_of_power_alone_may_stand_still()
    test_frozen.test_a_meter_that_is_silent_is_lost_not_frozen()


def not_followed() -> None:
    test_frozen.test_a_battery_that_takes_a_setpoint_and_does_nothing_raises_an_alarm()
    test_frozen.test_a_battery_that_its_own_management_holds_back_near_full_is_excused()


def sending() -> None:
    test_cycle.test_an_acknowledged_setpoint_without_effect_raises_an_alarm_within_two_cycles()
    test_cycle.test_a_setpoint_of_an_older_lease_or_past_its_end_is_never_sent()
    test_cycle.test_a_device_that_comes_back_goes_on_from_the_value_it_holds()
    test_cycle.test_the_last_bit_down_to_zero_is_sent_however_small()
    test_cycle.test_a_schedule_holds_nothing_that_the_device_cannot_do()


def grid_operator() -> None:
    test_grid_operator.test_a_setpoint_of_the_grid_operator_is_approached_by_its_ramp_outranks_all_wishes_and_lapses()
    test_grid_operator.test_nothing_is_dispatched_by_it_without_sight()
    test_grid_operator.test_the_frequency_is_answered_on_top_of_it_and_the_ramp_does_not_count_the_answer_twice()
    test_grid_operator.test_a_genset_starts_and_a_load_in_steps_goes_down_however_slow_the_ramp()
    test_grid_operator.test_the_connections_limit_is_kept_by_others_where_the_grid_operator_commands_the_storage()
    for orders_and_value in test_grid_operator.FALLBACKS:
        test_grid_operator.test_a_standing_limit_to_fall_back_on_gives_way_to_an_order(*orders_and_value)
    test_grid_operator.test_a_procedure_starts_when_its_asset_is_lost_and_ends_when_it_is_safely_back()
    test_grid_operator.test_a_procedure_ranks_below_limits_and_tells_nothing_to_what_is_not_seen()


def meters() -> None:
    for line in (test_meter_lag.Line(late=2), test_meter_lag.Line(cycle_s=0.2, every=1), test_meter_lag.Line(shows=3)):
        test_meter_lag.test_an_exchange_is_held_without_a_swing(line)
        test_meter_lag.test_a_limit_is_kept_without_a_swing(line)
    test_meter_lag.test_a_sun_that_rises_fast_leads_outside_the_limit_for_no_more_than_a_cycle()
    test_meter_lag.test_a_meter_that_counts_the_wrong_way_round_is_found_and_not_controlled_by()
    test_frozen.test_a_plant_that_moves_raises_nothing()
    test_pcc_margin.test_just_after_a_start_the_margin_is_the_widest()
    test_pcc_margin.test_the_margin_grows_with_what_moves_by_itself(150.5, 1.0, 5.5)


def curtailments() -> None:
    test_load_rules.test_not_longer_than_allowed_and_not_again_too_soon()
    test_load_rules.test_the_connection_outranks_the_rules_and_takes_the_loads_by_priority()
    test_load_rules.test_a_stop_knows_no_steps()


def failing_rules() -> None:
    for name in (name for name, (layer, _) in engine.RULES.items() if layer <= Layer.FAIL_SAFE):
        test_rules.test_a_guard_that_fails_sends_everything_to_safety(name)
    with pytest.MonkeyPatch.context() as patch:
        test_rules.test_an_exchange_rule_that_fails_leaves_nothing_where_it_stood(patch)


def votes() -> None:
    for case in test_voting.CASES:
        test_voting.test_the_majority_of_all_configured_instances_decides(*case)
    for way in test_voting.WAYS:
        test_voting.test_without_a_majority_the_way_leads_to_the_safe_value_and_never_up(*way)
    test_voting.test_the_values_of_several_actuators_come_from_one_instance()


TESTS: dict[ModuleType, list[Callable[[], None]]] = {
    frequency: [orders],
    limits: [device_alarms, grid_operator],
    reactive: [orders],
    mode: [modes],
    exchange: [modes, zero_flow, meters],
    frozen: [standing_still],
    image: [standing_still, test_source_time.test_nothing_is_controlled_by_the_past_and_history_keeps_its_time],
    voting: [votes],
    following: [not_followed],
    contingency: [grid_operator],
    dispatch: [sending],
    droop: [orders],
    engine: [failing_rules],
    exchange_noise: [meters],
    grid_orders: [grid_operator],
    load_rules: [curtailments],
    meter_lag: [meters],
    pcc: [meters, grid_operator],
    schedule: [sending],
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

"""A guard that is broken by hand is noticed: by the tables of `test_rules` or by the storm of `test_properties`."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{i:02d} {mutant.name}" for i, mutant in enumerate(MUTANTS)])
def test_a_broken_guard_is_noticed(mutant: Mutant) -> None:
    with broken(mutant):
        assert tables_notice() or any(weather(seed, 120) for seed in range(SEEDS)), "no test would notice this mutant"


def test_nothing_is_noticed_while_the_guards_stand() -> None:
    assert not tables_notice()
    assert not any(weather(seed, 120) for seed in range(SEEDS))

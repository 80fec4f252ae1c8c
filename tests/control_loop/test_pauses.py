"""What lives as long as the loops is kept out of collections; what ended is still collected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from control_loop.pauses import LongLived


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def lasting() -> Iterator[LongLived]:
    kept = LongLived()
    yield kept
    kept.end()
    assert gc.get_freeze_count() == 0


def test_what_runs_is_set_aside_once_it_is_the_same_twice_in_a_row(lasting: LongLived) -> None:
    assert [lasting.look(1), lasting.look(2), lasting.look(2), lasting.look(2)] == [False, False, True, False]
    assert gc.get_freeze_count() > 1000


def test_what_an_ended_loop_left_is_collected_at_the_next_change(lasting: LongLived) -> None:
    lasting.look(1)
    ended = Ring()
    seen = weakref.ref(ended)
    lasting.look(1)
    del ended
    gc.collect()
    assert seen() is not None  # set aside: no collection looks at it
    lasting.look(2)
    lasting.look(2)
    assert seen() is None

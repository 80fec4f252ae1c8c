"""What an operator reads in an alarm."""

from __future__ import annotations

import math

import pytest

from control_loop.alarms import silence


@pytest.mark.parametrize(("age_s", "words"), [(math.inf, "no reading yet"), (4.6, "no reading for 5 s")])
def test_a_silent_asset_is_told_in_words(age_s: float, words: str) -> None:
    assert silence(age_s) == words

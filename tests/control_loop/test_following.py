"""Gensets that do not do as they are told: one that has to start is given time, one that stops by itself is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_loop.following import FOLLOW_S, GENSET_FOLLOW_S, FollowWatch
from tests.control_loop.harness import MONOTONIC, situation


@pytest.mark.requirement("module.operation")
@pytest.mark.parametrize(("ran", "patience_s"), [(False, GENSET_FOLLOW_S), (True, FOLLOW_S)])
def test_a_genset_that_trips_is_told_sooner_than_one_that_starts(*, ran: bool, patience_s: float) -> None:
    watch = FollowWatch()

    def told_after(seconds: float, *, running: bool) -> bool:
        values: dict[str, float | None] = {
            "genset-1.running": float(running), "genset-1.active_power_kw": 60.0 if running else 0.0
        }  # fmt: skip
        context = situation(values, last={"genset-1": 60.0})
        if "genset-1" in watch._since:
            watch._since["genset-1"] = MONOTONIC - seconds
        return "genset-1" in watch.update(replace(context, monotonic=MONOTONIC))

    if ran:
        assert not told_after(0.0, running=True)
    assert not told_after(0.0, running=False)
    assert not told_after(patience_s - 1.0, running=False)
    assert told_after(patience_s, running=False)

"""The supervision of worker processes, whatever they print and however they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from control_loop.protocols import worker as supervised
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.worker import Worker

MODULE = "tests.control_loop.odd_worker"


def of(role: str, heard: list[Any], backoff: Backoff | None = None) -> Worker:
    def take(message: dict[str, Any]) -> None:
        heard.append(message["ready"])  # what is not understood has no such key

    return Worker(MODULE, lambda: role, take, backoff=backoff or Backoff(0.0, 0.0))


@pytest.mark.requirement("com.01.3")
def test_what_a_worker_prints_beside_its_messages_harms_nobody() -> None:
    async def check() -> None:
        heard: list[Any] = []
        worker = of("answer", heard)
        assert await worker.ask({"x": 1}, 60.0)
        assert (heard, worker.starts) == ([True], 1)
        pid = worker.pid
        with pytest.raises(DriverError, match="ended before it answered"):
            await worker.ask({"die": True}, 60.0)
        assert await worker.ask({"x": 2}, 60.0)
        assert worker.pid != pid
        await worker.stop()
        assert worker.pid is None

    asyncio.run(check())


@pytest.mark.requirement("com.01.3")
def test_a_worker_that_dies_as_soon_as_it_runs_is_started_ever_less_often() -> None:
    async def check() -> None:
        backoff = Backoff(0.001, 0.01)
        failures: list[float] = []
        note = backoff.failed
        backoff.failed = lambda monotonic: (note(monotonic), failures.append(backoff.wait_s(monotonic)))[0]  # type: ignore[method-assign]
        worker = of("die", [], backoff)
        async with asyncio.timeout(60):
            while worker.starts < 7:
                with contextlib.suppress(DriverError):
                    await worker.ensure()
                await asyncio.sleep(0.01)
        await worker.stop()
        assert failures[-1] >= 0.005, "the pause has grown to its bound, although each of them said something"

    asyncio.run(check())


def test_a_worker_that_says_nothing_is_ended_and_none_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "SILENCE_S", -9.5)  # of the patience with a start, half a second is left

    async def check() -> None:
        worker = of("linger", [])
        await worker.ensure()
        first = worker.pid
        assert first is not None
        async with asyncio.timeout(60):
            while worker.starts < 2:
                with contextlib.suppress(DriverError):
                    await worker.ensure()
                await asyncio.sleep(0.05)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        await worker.stop()

    asyncio.run(check())

"""How late an event loop runs, and why: what it computed itself, and what the machine made it wait for.

Beside the loop that is looked at, a process of its own runs a bare event loop that does nothing but look at the clock:
what it is late, every process of this machine is late at that time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.tables import process, show

TICK_S = 0.005
BOUND_MS = 20.0


@dataclass
class Lateness:
    """Milliseconds by which each look at the clock was late, and how much of it the thread computed meanwhile."""

    late: list[float]
    computed: list[float]


async def _watch(found: Lateness) -> None:
    while True:
        began, used = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK_S)
        found.late.append(max(0.0, 1000 * (time.perf_counter() - began - TICK_S)))
        found.computed.append(1000 * (time.thread_time() - used))


async def watched(work: Callable[[], Awaitable[object]]) -> Lateness:
    """How late the event loop runs while `work` goes on in it."""
    found = Lateness([], [])
    watching = asyncio.create_task(_watch(found))
    try:
        await work()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return found


async def against_a_bare_loop(work: Callable[[], Awaitable[object]]) -> None:
    """Watch the event loop while `work` goes on, beside a bare one at the same time; print both."""
    with process("-m", "benchmarks.stalls") as (bare, _):
        found = await watched(work)
        bare.terminate()
        lines = [] if bare.stdout is None else (await asyncio.to_thread(bare.stdout.read)).splitlines()
    bound = f"{BOUND_MS:g} ms"
    print(f"  looks at the clock, one each {1000 * TICK_S:g} ms: {len(found.late)}")
    show("event loop's stall then", found.late, BOUND_MS, bound)
    show("  what it computed itself", found.computed, BOUND_MS, bound)
    show("  a bare loop beside it", json.loads(lines[-1]), BOUND_MS, bound)


def main() -> None:
    """Run a bare loop until told to end, then print how late it was."""
    import signal

    async def run() -> list[float]:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        print("ready", flush=True)
        return (await watched(ended.wait)).late

    late = asyncio.run(run())
    sys.stdout.write(json.dumps(late) + "\n")


if __name__ == "__main__":
    main()

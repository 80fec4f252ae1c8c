"""The fault matrix: what fails, how, what the platform does then, and that nothing is lost. Each row is really run.

Two instances of `flexergy control` on one site, the lease in the store, a simulated plant with its battery on IEC 104
and all else on Modbus; each instance reaches devices and store by links of its own that can fail. Needs Linux, and root
for the full disk. About ten minutes::

    python -m benchmarks.fault_matrix            # all rows, as a Markdown table
    python -m benchmarks.fault_matrix store      # rows that say so
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fault_world import (
    BALLAST,
    DISK_MB,
    SETPOINT,
    SITE_ID,
    STORE_DISK_MB,
    TTL_S,
    Loop,
    Row,
    World,
    build,
    fill_disk,
    missing,
    until,
)
from flexergy_pipelines.store.commands import write_command

Scenario = Callable[[World], Awaitable[Row]]
Act = Callable[[World, Loop], None]
SCENARIOS: list[tuple[str, Scenario]] = []


def row(thing: str) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS.append((thing, scenario))
        return scenario

    return note


def device(target: str, kind: str, alarm: str, *, within_s: float = 25.0, command: bool = False, **more: Any) -> None:
    """A fault of the plant's side: the alarm that follows, the battery then, and that it is over after healing."""

    @row(f"device {target} {kind}")
    async def scenario(world: World) -> Row:
        start = datetime.now(UTC)
        world.fault(f"{SITE_ID}/{target}", kind, **more)
        if command:
            write_command(world.db, SITE_ID, "ess-1", SETPOINT, -30.0, "fault matrix", "olga")
        raised = await until(lambda: any(alarm in each for each in world.alarms()), within_s)
        await asyncio.sleep(TTL_S + 6.0)
        power = world.power()
        world.heal()
        if command:
            write_command(world.db, SITE_ID, "ess-1", SETPOINT, None, "fault matrix", "olga")
        cleared = await until(lambda: not any(alarm in each for each in world.alarms()), 40.0)
        await asyncio.sleep(4.0)
        what = f"alarm `{alarm}` after {raised:.1f} s" if not math.isnan(raised) else f"no alarm `{alarm}`"
        happened = f"{what}; battery then {power:.0f} kW; healed: over after {cleared:.1f} s"
        return Row(target, kind, happened, missing(world, start, datetime.now(UTC) - timedelta(seconds=2)))


device("pcc-meter", "down", "meter_lost")
device("pcc-meter", "silent", "meter_lost")
device("pcc-meter", "frozen", "telemetry_frozen pcc", within_s=60.0)
device("pcc-meter", "slow", "meter_lost", delay_s=5.0)
device("pcc-meter", "nan", "meter_lost")
device("esc-1", "down", "telemetry_stale ess-1")
device("esc-1", "silent", "telemetry_stale ess-1", within_s=40.0)
device("esc-1", "ack_without_effect", "setpoint_without_effect ess-1", within_s=40.0, command=True)
device("esc-1", "stuck_output", "setpoint_not_followed ess-1", within_s=40.0, command=True)
device("esc-1", "slow", "none expected", within_s=8.0, delay_s=0.5)
device("esc-1", "nan", "telemetry_stale ess-1", within_s=40.0)
device("esc-1", "clock_skew", "none expected", within_s=8.0, value=3600.0)


def takeover(thing: str, fault: str, begin: Act, end: Act) -> None:
    """A fault of the instance that commands: how soon the other does, and whether both ever did."""

    @row(f"{thing} {fault}")
    async def scenario(world: World) -> Row:
        master = world.master()
        standby = world.other(master)
        start, at = datetime.now(UTC), time.monotonic()
        begin(world, master)
        took = await until(lambda: bool(standby.writes(at)), 30.0)
        first = min(standby.writes(at), default=time.monotonic())
        await asyncio.sleep(8.0)
        end(world, master)
        await asyncio.sleep(12.0)
        both = master.writes(first)
        power = world.power()
        happened = f"other instance commands after {took:.1f} s; writes of the old master since: {len(both)}"
        await asyncio.sleep(2.0)
        lost = missing(world, start, datetime.now(UTC) - timedelta(seconds=2))
        return Row(thing, fault, f"{happened}; battery {power:.0f} kW", lost)


def restart(world: World, loop: Loop) -> None:
    del world
    loop.kill()
    loop.start()


def cut(mode: str) -> Callable[[World, Loop], None]:
    def change(world: World, loop: Loop) -> None:
        del world
        loop.store.fail(mode)

    return change


takeover("loop", "kill -9", lambda _, loop: loop.kill(), lambda _, loop: loop.start())
takeover(
    "loop", "frozen (SIGSTOP)", lambda _, loop: loop.signal(signal.SIGSTOP), lambda _, loop: loop.signal(signal.SIGCONT)
)
takeover("loop", "cut off from the store (black hole)", cut("black_hole"), cut("pass"))
takeover("loop", "its connections to the store are reset", cut("reset"), cut("pass"))


def calm(thing: str, fault: str, begin: Act, end: Act, seconds: float = 12.0) -> None:
    """A fault that must change nothing at the plant: the longest pause between writes, alarms, and what is missing."""

    @row(f"{thing} {fault}")
    async def scenario(world: World) -> Row:
        master = world.master()
        start, at = datetime.now(UTC), time.monotonic()
        begin(world, master)
        await asyncio.sleep(seconds)
        raised = world.alarms() if thing != "store" else set[str]()
        end(world, master)
        await asyncio.sleep(14.0)
        writes = sorted([*master.writes(at), *world.other(master).writes(at)])
        pause = max((b - a for a, b in zip([at, *writes], [*writes, time.monotonic()], strict=False)), default=0.0)
        changed = "" if world.master() is master else "; the other instance commands now"
        text = f"longest pause of commands {pause:.1f} s; battery {world.power():.0f} kW"
        text += f"; alarms {sorted(raised) or 'none'}{changed}"
        await asyncio.sleep(2.0)
        return Row(thing, fault, text, missing(world, start, datetime.now(UTC) - timedelta(seconds=2)))


calm("worker", "kill -9", lambda _, loop: os.kill(loop.worker(), signal.SIGKILL), lambda _w, _l: None)
calm("worker", "frozen (SIGSTOP) for 12 s", lambda _, loop: os.kill(loop.worker(), signal.SIGSTOP),
     lambda _, loop: os.kill(loop.worker(), signal.SIGCONT))  # fmt: skip
calm("standby", "kill -9", lambda world, loop: world.other(loop).kill(), lambda world, loop: world.other(loop).start())
calm("standby", "frozen (SIGSTOP)", lambda world, loop: world.other(loop).signal(signal.SIGSTOP),
     lambda world, loop: world.other(loop).signal(signal.SIGCONT))  # fmt: skip


def clock(seconds: float) -> Callable[[World, Loop], None]:
    def change(world: World, loop: Loop) -> None:
        del world
        (loop.home / "skew").write_text(str(seconds))

    return change


calm("loop", "wall clock +1 h for 12 s", clock(3600.0), clock(0.0))
calm("loop", "wall clock -1 h for 12 s", clock(-3600.0), clock(0.0))


def spool_of(loop: Loop) -> Path:
    """Its spool, seen from outside."""
    return Path(f"/proc/{loop.pid}/root{loop.home}/spool")


def fill(world: World, loop: Loop) -> None:
    del world
    fill_disk(spool_of(loop), DISK_MB, loop.name)


def empty(world: World, loop: Loop) -> None:
    del world
    (spool_of(loop) / BALLAST).unlink()


def fill_store(world: World, loop: Loop) -> None:
    del loop
    fill_disk(world.folder / "home", STORE_DISK_MB, "the store")


def empty_store(world: World, loop: Loop) -> None:
    del loop
    (world.folder / "home" / BALLAST).unlink()


calm("loop", "disk of its spool full for 12 s", fill, empty)


def to_devices(mode: str) -> Callable[[World, Loop], None]:
    """The links of the commanding instance to all Modbus devices."""

    def change(world: World, loop: Loop) -> None:
        del world
        for link in loop.links.values():
            link.fail(mode)

    return change


calm("loop", "its links to the Modbus devices are cut once (reset)", to_devices("reset"), to_devices("pass"), 1.0)
calm("loop", "its links to the Modbus devices answer 0.2 s late for 12 s", to_devices("slow"), to_devices("pass"))
calm("loop", "its links to the Modbus devices swallow all for 12 s", to_devices("black_hole"), to_devices("pass"))
calm("loop", "its link to the store is slow (0.5 s) for 12 s", cut("slow"), cut("pass"))


def of_standby(act: Act) -> Act:
    return lambda world, loop: act(world, world.other(loop))


calm("standby", "cut off from the store for 12 s", of_standby(cut("black_hole")), of_standby(cut("pass")))
calm("standby", "its connections to the store are reset for 12 s", of_standby(cut("reset")), of_standby(cut("pass")))
calm("standby", "its link to the store is slow (0.5 s) for 12 s", of_standby(cut("slow")), of_standby(cut("pass")))
calm("standby", "wall clock +1 h for 12 s", of_standby(clock(3600.0)), of_standby(clock(0.0)))
calm("standby", "wall clock -1 h for 12 s", of_standby(clock(-3600.0)), of_standby(clock(0.0)))
calm("standby", "disk of its spool full for 12 s", of_standby(fill), of_standby(empty))
calm("store", "its disk is full for 12 s", fill_store, empty_store)


def everywhere(mode: str) -> Callable[[World, Loop], None]:
    def change(world: World, loop: Loop) -> None:
        del loop
        for each in world.loops:
            each.store.fail(mode)

    return change


calm("store", "cut off from both for 12 s (black hole)", everywhere("black_hole"), everywhere("pass"))
calm("store", "resets every connection for 12 s", everywhere("reset"), everywhere("pass"))
calm("store", "answers 0.5 s late for 12 s", everywhere("slow"), everywhere("pass"))


def postmaster(world: World) -> int:
    return int((world.folder / "home" / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def crash(world: World, loop: Loop) -> None:
    del loop
    found = subprocess.run(["pgrep", "-P", str(postmaster(world))], capture_output=True, check=True)
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)  # a killed backend makes the server recover from its log


calm("store", "a server process killed: crash recovery", crash, lambda _w, _l: None)


async def run(wanted: list[str]) -> None:
    """Run the rows and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="flexergy-faults-"))
    world = await build(folder)
    print("| what | fault | what happened | telemetry in the store afterwards |\n| --- | --- | --- | --- |", flush=True)
    try:
        for thing, scenario in SCENARIOS:
            if wanted and not any(word in thing for word in wanted):
                continue
            await until(lambda: not world.alarms(), 30.0)
            # A row that could not be run is told as such and does not end the others.
            try:
                print((await scenario(world)).text, flush=True)
            except (OSError, RuntimeError, ValueError, IndexError, httpx.HTTPError) as error:
                print(f"| {thing} | {scenario.__name__} | not run: {error} | |", flush=True)
                world.heal()
    finally:
        for loop in world.loops:
            loop.kill()
        os.killpg(world.plant.pid, signal.SIGKILL)
        world.store.close()
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(folder / "home")], check=False)
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(folder, ignore_errors=True)


def run_named() -> None:
    """Run the rows that the command line names, or all."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    asyncio.run(run(sys.argv[1:]))


if __name__ == "__main__":
    run_named()

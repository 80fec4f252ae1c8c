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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from benchmarks.proxies import Proxy
from flexergy_pipelines.grid import Site, dump_site, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings, publish_endpoints, read_endpoints
from flexergy_pipelines.store import Store, TenantStore, open_store
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.commands import write_command
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import save_site

SETPOINT = "active_power_setpoint_kw"
SITE_ID = "microgrid"
TTL_S = 8.0
DISK_MB = 24
"""Size of the disk that an instance's spool has to itself, where this runs as root."""


def matrix_site() -> Site:
    """The sample microgrid: battery on IEC 104 and its SoC kept each second, and a short time to live."""
    site = site_to_dict(sample_site(SITE_ID))
    site["operation"] |= {"setpoint_ttl_s": TTL_S, "max_ramp_kw_per_s": 50.0}
    site["history"] = {"rules": [{"quantity": "soc", "cyclic_s": 0.9}]}
    esc = next(c for c in site["controllers"] if c["id"] == "esc-1")
    esc["connection"] |= {"protocol": "iec104", "port": 24_104}
    return parse_site(site)


@dataclass
class Loop:
    """One instance of the control service with its own home, links and clock."""

    name: str
    home: Path
    links: dict[str, Proxy]
    store: Proxy
    url: str
    process: subprocess.Popen[bytes] | None = None
    own_disk: bool = False

    @property
    def log(self) -> str:
        return (self.home / "out.log").read_text(errors="replace") if (self.home / "out.log").exists() else ""

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.process.pid

    def start(self) -> None:
        words = [sys.executable, "-m", "benchmarks.skewed_control", str(self.home / "skew"), "--lease", "store"]
        if self.own_disk:
            spool = self.home / "spool"
            spool.mkdir(exist_ok=True)
            script = f"mount -t tmpfs -o size={DISK_MB}m tmpfs {spool} && exec " + " ".join(words)
            words = ["unshare", "-m", "sh", "-c", script]
        environment = os.environ | {"FLEXERGY_HOME": str(self.home), "FLEXERGY_DATABASE_URL": self.url}
        with (self.home / "out.log").open("ab") as log:
            self.process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def worker(self) -> int:
        """Its IEC 104 worker process."""
        found = subprocess.run(["pgrep", "-P", str(self.pid), "-f", "iec104_worker"], capture_output=True, check=False)
        return int(found.stdout.split()[0])

    def writes(self, since: float) -> list[float]:
        """When it wrote to a Modbus device."""
        return sorted(at for link in self.links.values() for at in link.writes if at >= since)


@dataclass
class World:
    """Store, plant and two loops."""

    folder: Path
    store: Store
    db: TenantStore
    plant: subprocess.Popen[bytes]
    url: str
    loops: list[Loop] = field(default_factory=list)

    def master(self, within_s: float = 5.0) -> Loop:
        """The instance that wrote to a device last, and lately."""
        now = time.monotonic()
        return max(self.loops, key=lambda loop: max(loop.writes(now - within_s), default=0.0))

    def other(self, loop: Loop) -> Loop:
        return next(each for each in self.loops if each is not loop)

    def fault(self, target: str, kind: str, **more: Any) -> None:
        httpx.post(f"{self.url}/faults", json={"target": target, "kind": kind, **more}, timeout=5).raise_for_status()

    def heal(self) -> None:
        httpx.delete(f"{self.url}/faults", timeout=5).raise_for_status()

    def power(self) -> float:
        """What the battery really does [kW]."""
        state = httpx.get(f"{self.url}/state", timeout=5).json()
        return float(find(state, "ess-1"))

    def alarms(self) -> set[str]:
        rows = list_alarms(self.db, SITE_ID).select("code", "asset_id").iter_rows()
        return {f"{code} {asset}" if asset else code for code, asset in rows} - {"no_plan"}


def find(state: Any, asset: str) -> float:
    """Active power of an asset in the simulator's state, wherever it stands there."""
    if isinstance(state, dict):
        if asset in state and isinstance(state[asset], dict):
            return float(state[asset].get("active_power_kw", "nan"))
        for value in state.values():
            found = find(value, asset)
            if not math.isnan(found):
                return found
    return float("nan")


@dataclass
class Row:
    """One row of the table."""

    thing: str
    fault: str
    happened: str
    lost: str

    @property
    def text(self) -> str:
        return f"| {self.thing} | {self.fault} | {self.happened} | {self.lost} |"


async def until(condition: Callable[[], bool], within_s: float) -> float:
    """Seconds until a condition holds; not a number when it does not in time."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        if await asyncio.to_thread(condition):
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    return float("nan")


def missing(world: World, start: datetime, end: datetime) -> str:
    """Seconds of the battery's state of charge that the store lacks between two times."""
    rows = read_readings(world.db, SITE_ID, start, end, [("ess-1", "soc")]).filter(pl.col("value").is_not_null())
    times = sorted(rows["time"].to_list())
    gap = max(((b - a).total_seconds() for a, b in zip([start, *times], [*times, end], strict=False)), default=0.0)
    return f"{len(times)} of {(end - start).total_seconds():.0f} readings, longest gap {gap:.1f} s"


# --- rows ---------------------------------------------------------------------------------------------------------

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


def fill(world: World, loop: Loop) -> None:
    del world
    spool = Path(f"/proc/{loop.pid}/root{loop.home}/spool")
    room = os.statvfs(spool)
    if room.f_blocks * room.f_frsize > 2 * DISK_MB * 2**20:
        raise RuntimeError(f"{loop.name} has no small disk of its own (root only); the machine's is not filled")
    with (spool / "ballast").open("wb", buffering=0) as file:
        for _ in range(2 * DISK_MB * 256):
            try:
                if file.write(b"0" * 4096) < 4096:
                    return
            except OSError:
                return


def empty(world: World, loop: Loop) -> None:
    del world
    Path(f"/proc/{loop.pid}/root{loop.home}/spool/ballast").unlink()


calm("loop", "disk of its spool full for 12 s", fill, empty)


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


# --- the world ----------------------------------------------------------------------------------------------------


async def build(folder: Path) -> World:
    """Start everything; returns when one instance commands."""
    home = folder / "home"
    settings = Settings(home, None, "demo")
    store = open_store(settings)
    store.migrate()
    store.create_tenant("demo")
    db = store.tenant("demo")
    site = matrix_site()
    save_site(db, site)
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    schema = {"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
    rows = [("ess-1", SETPOINT, start + timedelta(minutes=15 * i), 40.0) for i in range(-8, 24)]
    record = PlanRecord(
        SITE_ID, "day_ahead", start, start - timedelta(hours=2), start + timedelta(hours=6), 15, "optimal"
    )
    write_plan(db, record, pl.DataFrame(rows, schema=schema, orient="row"))
    file = folder / "site.yaml"
    file.write_text(dump_site(site))
    environment = os.environ | {"FLEXERGY_HOME": str(home)}
    with (folder / "plant.log").open("ab") as log:
        words = [sys.executable, "-m", "flexergy_pipelines.cli", "simulate", str(file), "--http-port", "0"]
        plant = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    await until(lambda: "simulator" in read_endpoints(settings), 90.0)
    if "simulator" not in read_endpoints(settings):
        raise RuntimeError(f"the plant did not start; see {folder / 'plant.log'}")
    endpoints = read_endpoints(settings)
    world = World(folder, store, db, plant, endpoints["simulator"])
    for name in ("a", "b"):
        world.loops.append(await make_loop(name, folder, endpoints, home))
    for loop in world.loops:
        loop.own_disk = os.geteuid() == 0
        loop.start()
    await until(lambda: any(loop.writes(0.0) for loop in world.loops), 120.0)
    if not any(loop.writes(0.0) for loop in world.loops):
        raise RuntimeError(f"no instance commands; see {folder}")
    await asyncio.sleep(15.0)
    return world


async def make_loop(name: str, folder: Path, endpoints: dict[str, str], home: Path) -> Loop:
    """An instance's home, with links of its own to every Modbus device and to the store."""
    own = folder / name
    own.mkdir()
    links: dict[str, Proxy] = {}
    addresses: dict[str, str] = {}
    for key, address in endpoints.items():
        if not key.startswith(f"{SITE_ID}/") or key.endswith("/esc-1"):
            addresses[key] = address
            continue
        host, _, port = address.rpartition(":")
        links[key] = Proxy((host, int(port)))
        addresses[key] = f"127.0.0.1:{await links[key].listen()}"
    publish_endpoints(Settings(own, None, "demo"), addresses)
    sockets = own / "pg"
    sockets.mkdir()
    store = Proxy(home / "postgres" / ".s.PGSQL.5432", delay_s=0.5)
    await store.listen(sockets / ".s.PGSQL.5432")
    return Loop(name, own, links, store, f"postgresql+psycopg://flexergy_app@/flexergy?host={sockets}")


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
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(folder, ignore_errors=True)


def run_named() -> None:
    """Run the rows that the command line names, or all."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    asyncio.run(run(sys.argv[1:]))


if __name__ == "__main__":
    run_named()

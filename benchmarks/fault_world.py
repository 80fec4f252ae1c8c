"""What the fault matrix is run on: store, simulated plant, and two instances of the loop with links that can fail."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import save_site

SETPOINT = "active_power_setpoint_kw"
SITE_ID = "microgrid"
TTL_S = 8.0
DISK_MB = 24
"""Size of the disk that an instance's spool has to itself, where this runs as root."""
BALLAST = "ballast"
STORE_DISK_MB = 400
"""The same for the store's."""


def matrix_site() -> Site:
    """The sample microgrid: battery on IEC 104 and its SoC kept each second, and a short time to live."""
    site = site_to_dict(sample_site(SITE_ID))
    site["operation"] |= {"setpoint_ttl_s": TTL_S, "max_ramp_kw_per_s": 50.0}
    site["history"] = {"rules": [{"quantity": "soc", "cyclic_s": 0.9}]}
    esc = next(c for c in site["controllers"] if c["id"] == "esc-1")
    esc["connection"] |= {"protocol": "iec104", "port": 24_104, "standby_link": True}
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


def fill_disk(folder: Path, size_mb: int, what: str) -> None:
    """Write until nothing more goes in.

    Raises
    ------
    RuntimeError
        If it is no small disk made for this.
    """
    room = os.statvfs(folder)
    if room.f_blocks * room.f_frsize > 2 * size_mb * 2**20:
        raise RuntimeError(f"{what} has no small disk of its own (root only); the machine's is not filled")
    with (folder / BALLAST).open("wb", buffering=0) as file:
        for _ in range(2 * size_mb * 256):
            try:
                if file.write(b"0" * 4096) < 4096:
                    return
            except OSError:
                return


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


async def build(folder: Path) -> World:
    """Start everything; returns when one instance commands."""
    home = folder / "home"
    settings = Settings(home, None, "demo")
    if os.geteuid() == 0:  # a small disk of its own, that may be filled
        home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORE_DISK_MB}m", "tmpfs", str(home)], check=True)
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
        links[key] = Proxy((host, int(port)), delay_s=0.1)
        addresses[key] = f"127.0.0.1:{await links[key].listen()}"
    publish_endpoints(Settings(own, None, "demo"), addresses)
    sockets = own / "pg"
    sockets.mkdir()
    store = Proxy(home / "postgres" / ".s.PGSQL.5432", delay_s=0.5)
    await store.listen(sockets / ".s.PGSQL.5432")
    return Loop(name, own, links, store, f"postgresql+psycopg://flexergy_app@/flexergy?host={sockets}")

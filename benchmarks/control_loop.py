"""The control loop measured: cycles over each protocol, from a request to the wire, and memory.

Each part alone, from the root of the repository; ``--short`` makes it small and quick::

    python -m benchmarks.control_loop modbus      # 300 devices x 20 registers, 10 min, against bare pymodbus
    python -m benchmarks.control_loop iec104      # 200 stations with a setpoint each per cycle
    python -m benchmarks.control_loop iec61850    # 100 servers, read and operate, one of them frozen
    python -m benchmarks.control_loop ocpp16      # 500 charge points with meter values each second
    python -m benchmarks.control_loop request     # operator's command and new plan, until the device has it
    python -m benchmarks.control_loop memory      # an hour of cycles: slope of the memory

Without a name all are run short. Figures of a busy machine say little: the load is printed with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import structlog
from pymodbus.client import AsyncModbusTcpClient

from benchmarks.fleet import charging_site, fleet_site
from benchmarks.request_to_wire import request
from benchmarks.stalls import against_a_bare_loop
from benchmarks.tables import percentile, process, show
from control_loop.cycle import ControlCycle
from control_loop.model import Actuator, SiteModel, Storage
from control_loop.pauses import LongLived
from control_loop.plan_view import PlanView, plan_view
from control_loop.protocols.base import MemoryDriver
from control_loop.protocols.factory import drivers_of
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_line import TcpLine
from control_loop.site_model import model_of
from flexergy_pipelines.grid import SystemClock, TemplatePoint, load_template
from flexergy_pipelines.settings import Settings, publish_endpoints

SETPOINT = "active_power_setpoint_kw"
DEVICES_NICE = 10
HOLDING, INPUT = 4, 16
"""Registers that a cycle reads of each Modbus device, in one request each."""

SERVER = """
import asyncio, sys
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
async def main():
    servers = []
    for _ in range(int(sys.argv[1])):
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        words = [SimData(0, values=[0] * 40, datatype=DataType.REGISTERS)]
        high = [SimData(0, values=[0] * 9002, datatype=DataType.REGISTERS)]
        server = ModbusTcpServer(SimDevice(1, (bits, bits, high, words)), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        servers.append(server)
    print(*(s.transport.sockets[0].getsockname()[1] for s in servers), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def paced(rounds: int, work: Callable[[int], Awaitable[object]], period_s: float = 1.0) -> list[float]:
    """Length of each of `rounds` runs, one a period [ms]; the first two, which connect, are left out."""
    lengths: list[float] = []
    for number in range(rounds + 2):
        began = time.perf_counter()
        await work(number)
        lengths.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(max(0.0, began + period_s - time.perf_counter()))
    return lengths[2:]


def wanted(count: int, number: int, clock: SystemClock) -> PlanView:
    """A plan that asks something new of every battery in each cycle."""
    now = clock.now()
    rows = [(f"ess-{i}", SETPOINT, now, float((7 * number + i) % 50)) for i in range(count)]
    return plan_view(number + 1, number + 1, start=now, end=now + timedelta(minutes=15), step_minutes=15, rows=rows)


# --- Modbus -------------------------------------------------------------------------------------------------------


def site_of(count: int) -> SiteModel:
    """A site of `count` storage systems."""
    storage = Storage(200.0, 0.1, 0.9, 0.95, 0.95)
    actuators = tuple(
        Actuator(f"ess-{i}", "ess", SETPOINT, f"esc-{i}", -100.0, 100.0, storage=storage) for i in range(count)
    )
    return SiteModel("bench", actuators, 1e6, 1e6, ramp_kw_per_s=50.0, setpoint_ttl_s=60.0)


async def bare(ports: list[int], cycles: int) -> list[float]:
    """The reads of one cycle by pymodbus alone."""
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, timeout=1, retries=0, reconnect_delay=0) for port in ports]
    await asyncio.gather(*(client.connect() for client in clients))

    async def read(client: AsyncModbusTcpClient) -> None:
        await client.read_holding_registers(0, count=HOLDING)
        await client.read_input_registers(0, count=INPUT)

    async def work(_: int) -> None:
        await asyncio.gather(*(read(client) for client in clients))

    lengths = await paced(cycles, work)
    for client in clients:
        client.close()
    return lengths


async def whole(ports: list[int], cycles: int) -> list[float]:
    """Whole cycles: the same reads, decisions, writes where something changed, and checks."""
    esc = load_template("generic_esc")
    spare = [
        TemplatePoint(quantity=f"spare_{i}", table="input", address=12 + i, type="uint16", scale=1.0, access="r")
        for i in range(4)
    ]
    template = esc.model_copy(update={"points": (*esc.points, *spare)})

    def driver(number: int, port: int) -> ModbusDriver:
        line = TcpLine(lambda: ("127.0.0.1", port))
        asset = f"ess-{number}"
        return ModbusDriver(f"esc-{number}", line, template, [asset], {asset: template.quantities}, timeout_s=1.0)

    drivers = [driver(i, port) for i, port in enumerate(ports)]
    clock = SystemClock()
    cycle = ControlCycle(site_of(len(ports)), drivers, clock, read_deadline_s=5.0, write_deadline_s=5.0)
    lasting = LongLived()
    lasting.set_aside()  # as the service does once its loops run
    lengths = await paced(cycles, lambda _: cycle.run_once(clock.now()))
    missing = sum(driver.health.failures for driver in drivers)
    await cycle.close()
    lasting.end()
    print(f"  requests that failed: {missing}")
    return lengths


def modbus(count: int, seconds: int) -> None:
    """Cycles over many Modbus devices against the same reads by bare pymodbus."""
    print(f"{count} Modbus devices, {HOLDING + INPUT} registers in 2 requests each, {seconds} cycles of 1 s")
    with process("-c", SERVER, str(count)) as (_, line):
        ports = [int(word) for word in line.split()]
        alone = asyncio.run(bare(ports, min(seconds, 60)))
        show("bare pymodbus, reads only", alone)
        full = asyncio.run(whole(ports, seconds))
        show("whole control cycle", full)
        print(f"  whole cycle p99 / bare p99: {percentile(full, 0.99) / percentile(alone, 0.99):.2f}")
    values = {(f"ess-{i}", q): 0.5 for i in range(count) for q in ("active_power_kw", "soc", "max_charge_kw")}
    cycle = ControlCycle(site_of(count), [MemoryDriver("all", dict(values))], SystemClock())
    show("decisions and dispatch only", asyncio.run(paced(20, lambda _: cycle.run_once(SystemClock().now()), 0.0)))


# --- protocols of worker processes --------------------------------------------------------------------------------


def stations(protocol: str, count: int, seconds: int, *, freeze: bool = False) -> None:
    """A new setpoint for each of many stations in each cycle; afterwards every device must hold its last one."""
    print(f"{count} stations, {protocol}, a setpoint each in each of {seconds} cycles of 1 s")
    with (
        tempfile.TemporaryDirectory() as home,
        process("-m", "benchmarks.fleet", protocol, str(count)) as (child, line),
    ):
        settings = Settings(Path(home), None, "demo")
        publish_endpoints(settings, json.loads(line))
        stand_back(child.pid)
        asyncio.run(_stations(protocol, count, seconds, settings, child.pid if freeze else None))


async def _stations(protocol: str, count: int, seconds: int, settings: Settings, fleet_pid: int | None) -> None:
    site, clock = fleet_site(protocol, count), SystemClock()
    drivers = drivers_of(site, settings)
    cycle = ControlCycle(replace(model_of(site), schedule_kinds=frozenset()), drivers, clock)

    async def run(number: int) -> None:
        cycle.plan = wanted(count, number, clock)
        await cycle.run_once(clock.now())

    connecting = time.perf_counter()
    while not all(driver.health.connected for driver in drivers) and time.perf_counter() - connecting < 120:
        await cycle.run_once(clock.now())
        await asyncio.sleep(0.5)
    print(f"  links up: {sum(d.health.connected for d in drivers)} of {len(drivers)}")
    began, cpu = time.perf_counter(), time.process_time()
    show("cycle", await paced(seconds, run))
    used = (time.process_time() - cpu) / (time.perf_counter() - began)
    print(f"  share of a core that the loop's own process used: {used:.0%}")
    if fleet_pid is not None:
        frozen = children(fleet_pid)[0]
        os.kill(frozen, signal.SIGSTOP)
        show("cycle, one peer frozen", await paced(max(5, seconds // 4), run))
        lasting = LongLived()
        lasting.set_aside()  # as the service does once its loops run
        await against_a_bare_loop(lambda: paced(max(5, seconds // 4), run))
        lasting.end()
        os.kill(frozen, signal.SIGCONT)
    until, lost = time.perf_counter() + 30.0, ["not looked yet"]
    while lost and time.perf_counter() < until:  # retries of what was not acknowledged, and the last reports
        await cycle.run_once(clock.now())
        await asyncio.sleep(0.25)
        lost = astray(cycle)
    print(f"  devices that do not hold their last setpoint after the retries: {len(lost)} {lost[:5]}")
    await cycle.close()


def astray(cycle: ControlCycle) -> list[str]:
    """Batteries whose device does not hold what it was told last."""
    found: list[str] = []
    for actuator in cycle.model.actuators:
        sent, held = cycle.dispatcher.last(actuator.asset_id), cycle.dispatcher.readback(actuator.asset_id)
        if sent is None or held is None or abs(held - sent.value) > 0.1:
            found.append(actuator.asset_id)
    return found


def stand_back(pid: int) -> None:
    """Let the devices have what the loop leaves of the processors: in the field they have their own."""
    for one in (pid, *children(pid)):
        for thread in Path(f"/proc/{one}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), DEVICES_NICE)
    print(f"  the devices' processes run at nice {DEVICES_NICE}, the loop's at 0")


def children(pid: int) -> list[int]:
    """Processes started by a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ocpp16(count: int, seconds: int) -> None:
    """Charge points that send meter values each second: what the loop's process uses of a core."""
    print(f"{count} charge points, OCPP 1.6, meter values each second, {seconds} s")
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(_ocpp16(count, seconds, Settings(Path(home), None, "demo")))


async def _ocpp16(count: int, seconds: int, settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site, clock = charging_site(count, port), SystemClock()
    drivers = [driver for driver in drivers_of(site, settings) if driver.device == "ev-1"]
    cycle = ControlCycle(model_of(site), drivers, clock)
    await cycle.run_once(clock.now())
    url = f"ws://127.0.0.1:{port}/ocpp"
    fleet = subprocess.Popen([sys.executable, "-m", "benchmarks.fleet", "ocpp16", str(count), url, "1.0"])
    try:
        before = -1.0
        while (drivers[0].health.connected, before) != (True, shown(cycle)):
            before = shown(cycle)
            await cycle.run_once(clock.now())
            await asyncio.sleep(3.0)
        began, cpu = time.perf_counter(), time.process_time()
        show("cycle", await paced(seconds, lambda _: cycle.run_once(clock.now())))
        used = (time.process_time() - cpu) / (time.perf_counter() - began)
        print(f"  power of all charge points: {shown(cycle):.0f} kW; share of a core used: {used:.0%}")
    finally:
        fleet.kill()
        fleet.wait()
        await cycle.close()


def shown(cycle: ControlCycle) -> float:
    """Power of the charging block as last read [kW]."""
    sample = cycle.image.sample("ev-1", "active_power_kw")
    return 0.0 if sample is None or sample.value is None else sample.value


# --- memory -------------------------------------------------------------------------------------------------------


def memory(cycles: int) -> float:
    """Memory of the whole loop of 30 batteries over simulated seconds; prints and returns the slope [MB an hour]."""
    from tests.control_loop.endurance import endure

    print(f"memory over {cycles} cycles of 1 s, 30 batteries, spool and store side included")
    samples = endure(cycles)
    half = samples[len(samples) // 3 :]
    xs, ys = [x for x, _ in half], [y for _, y in half]
    slope = 3600 * statistics.linear_regression(xs, ys).slope
    print(f"  first {samples[0][1]:.1f} MB, last {samples[-1][1]:.1f} MB, slope {slope:+.2f} MB an hour")
    return slope


PARTS: dict[str, Callable[[bool], object]] = {
    "modbus": lambda short: modbus(*((40, 10) if short else (300, 600))),
    "iec104": lambda short: stations("iec104", *((10, 10) if short else (200, 120))),
    "iec61850": lambda short: stations("iec61850", *((4, 10) if short else (100, 120)), freeze=True),
    "ocpp16": lambda short: ocpp16(*((20, 10) if short else (500, 120))),
    "request": lambda short: request(8 if short else 60),
    "memory": lambda short: memory(600 if short else 3600),
}


def main() -> None:
    """Run the parts that the command line names; all of them, short, when it names none."""
    parser = argparse.ArgumentParser(description="Measure the control loop.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true", help="few devices, few seconds")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for name in given.part or PARTS:
        print(f"-- {name} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", flush=True)
        PARTS[name](given.short or not given.part)


if __name__ == "__main__":
    main()

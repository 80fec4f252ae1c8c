"""The control cycle measured: many Modbus devices against the same reads by bare pymodbus, and decisions alone.

Run from the root of the repository: ``python -m benchmarks.control_loop [devices [cycles]]``.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from pymodbus.client import AsyncModbusTcpClient

from control_loop.cycle import ControlCycle
from control_loop.model import Actuator, SiteModel, Storage
from control_loop.protocols.base import MemoryDriver
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_line import TcpLine
from flexergy_pipelines.grid import SystemClock, load_template

DEVICES = 300
CYCLES = 60
TEMPLATE = "generic_esc"
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


def percentile(values: list[float], share: float) -> float:
    """Value that `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, round(share * len(values)))]


def site_of(count: int) -> SiteModel:
    """A site of `count` storage systems."""
    storage = Storage(200.0, 0.1, 0.9, 0.95, 0.95)
    actuators = tuple(
        Actuator(f"ess-{i}", "ess", "active_power_setpoint_kw", f"esc-{i}", -100.0, 100.0, storage=storage)
        for i in range(count)
    )
    return SiteModel("bench", actuators, 1e6, 1e6, ramp_kw_per_s=50.0)


async def timed(rounds: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Length of each of `rounds` runs [ms]; the first, which connects, is left out."""
    lengths: list[float] = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        await work()
        lengths.append(1000 * (time.perf_counter() - began))
    return lengths[1:]


async def bare(ports: list[int], cycles: int) -> list[float]:
    """The reads of one cycle by pymodbus alone: two requests for each device."""
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, timeout=1, retries=0, reconnect_delay=0) for port in ports]
    await asyncio.gather(*(client.connect() for client in clients))

    async def read(client: AsyncModbusTcpClient) -> None:
        await client.read_holding_registers(0, count=2)
        await client.read_input_registers(0, count=10)

    async def work() -> None:
        await asyncio.gather(*(read(client) for client in clients))

    lengths = await timed(cycles, work)
    for client in clients:
        client.close()
    return lengths


async def whole(ports: list[int], cycles: int) -> list[float]:
    """Whole cycles: the same reads, decisions, writes where something changed, and checks."""
    template = load_template(TEMPLATE)

    def driver(number: int, port: int) -> ModbusDriver:
        asset = f"ess-{number}"
        return ModbusDriver(
            f"esc-{number}",
            TcpLine(lambda: ("127.0.0.1", port)),
            template,
            [asset],
            {asset: template.quantities},
            timeout_s=1.0,
        )

    drivers = [driver(i, port) for i, port in enumerate(ports)]
    clock = SystemClock()
    cycle = ControlCycle(site_of(len(ports)), drivers, clock, read_deadline_s=5.0, write_deadline_s=5.0)
    lengths = await timed(cycles, lambda: cycle.run_once(clock.now()))
    missing = sum(driver.health.failures for driver in drivers)
    await cycle.close()
    print(f"  requests that failed: {missing}")
    return lengths


async def decisions_only(count: int, cycles: int) -> list[float]:
    """Cycles on in-memory devices: what deciding and dispatching cost without a wire."""
    values = {(f"ess-{i}", q): 0.5 for i in range(count) for q in ("active_power_kw", "soc", "max_charge_kw")}
    cycle = ControlCycle(site_of(count), [MemoryDriver("all", dict(values))], SystemClock())
    return await timed(cycles, lambda: cycle.run_once(SystemClock().now()))


def show(name: str, lengths: list[float]) -> None:
    """One line of the table."""
    print(
        f"  {name:<28} median {statistics.median(lengths):7.1f} ms   p99 {percentile(lengths, 0.99):7.1f} ms"
        f"   worst {max(lengths):7.1f} ms"
    )


def main() -> None:
    """Print the table."""
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES
    cycles = int(sys.argv[2]) if len(sys.argv) > 2 else CYCLES
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(devices)], stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout is None:
            raise RuntimeError("the devices' process has no output")
        ports = [int(word) for word in server.stdout.readline().split()]
        print(f"{devices} Modbus devices, 12 registers in 2 requests each, {cycles} cycles")
        alone = asyncio.run(bare(ports, cycles))
        show("bare pymodbus, reads only", alone)
        full = asyncio.run(whole(ports, cycles))
        show("whole control cycle", full)
        show("decisions and dispatch only", asyncio.run(decisions_only(devices, cycles)))
        print(f"  whole cycle p99 / bare p99: {percentile(full, 0.99) / percentile(alone, 0.99):.2f}")
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


if __name__ == "__main__":
    main()

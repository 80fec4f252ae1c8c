"""A fleet of simulated devices behind one protocol, in a process of its own, for `benchmarks.control_loop`.

Run as ``python -m benchmarks.fleet PROTOCOL COUNT``; it prints the address of each device as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from typing import Any

from flexergy_pipelines.grid import Site, SystemClock, parse_site, site_to_dict

BASE_PORT = 26_000
ALWAYS = 60.0


def fleet_site(protocol: str, count: int) -> Site:
    """A site of `count` storage controllers that speak `protocol`, and a Modbus meter."""
    controllers: list[dict[str, Any]] = [
        {
            "id": f"esc-{i}",
            "kind": "esc",
            "name": f"Controller {i}",
            "connection": {"protocol": protocol, "port": BASE_PORT + i, "template": "generic_esc", "timeout_s": 1.0},
            "ess": [
                {
                    "id": f"ess-{i}",
                    "name": f"Battery {i}",
                    "energy_capacity_kwh": 200.0,
                    "max_charge_kw": 100.0,
                    "max_discharge_kw": 100.0,
                    "soc_min": 0.1,
                    "soc_max": 0.9,
                    "charge_efficiency": 0.95,
                    "discharge_efficiency": 0.95,
                }
            ],
        }
        for i in range(count)
    ]
    meter = {"protocol": "modbus_tcp", "port": BASE_PORT - 1, "template": "generic_meter"}
    return parse_site(
        {
            "id": "fleet",
            "name": "Fleet",
            "kind": "power_plant",
            "time_zone": "UTC",
            "location": {"latitude_deg": 52.0, "longitude_deg": 5.0},
            "country": "NL",
            "grid_connection": {"import_limit_kw": 200.0 * count, "export_limit_kw": 200.0 * count},
            "tariff": {"market_area": "NL"},
            "meters": [{"id": "pcc-meter", "name": "Meter", "role": "pcc", "connection": meter}],
            "controllers": controllers,
            "operation": {"max_ramp_kw_per_s": 1000.0, "setpoint_ttl_s": ALWAYS},
        }
    )


def charging_site(count: int, port: int) -> Site:
    """A site of one EV charging manager with `count` charge points that dial `port`."""
    site = site_to_dict(fleet_site("modbus_tcp", 1))
    points = [{"id": f"cp-{i}", "max_kw": 11.0} for i in range(count)]
    link = {"protocol": "ocpp16", "port": port, "template": "generic_ev_manager"}
    manager = {"id": "ev-1", "kind": "ev_charging_manager", "name": "EV", "connection": link, "charge_points": points}
    return parse_site(site | {"controllers": [*site["controllers"], manager]})


class NoSeries:
    """A fleet has no sun, wind or load."""

    def value(self, asset_id: str, t: datetime) -> float:  # noqa: ARG002 - the plant asks so
        return 0.0


async def serve(protocol: str, count: int) -> None:
    """Serve the fleet until the process is ended."""
    from plant_simulator.fronts import WorkerFront, make_front
    from plant_simulator.iec104 import Iec104Device
    from plant_simulator.plant import Plant
    from plant_simulator.worker import Worker

    site = fleet_site(protocol, count)
    plant = Plant(site, NoSeries(), SystemClock(), 1)
    devices = site.devices()
    addresses: dict[str, str] = {}
    joined = [d for d in devices if protocol == "iec104" and d.connection.protocol == "iec104"]
    images = {d.key: Iec104Device(d, plant) for d in joined}

    def hear(message: dict[str, Any]) -> None:
        if "port" in message:
            addresses[message["key"]] = f"127.0.0.1:{message['port']}"
        elif "value" in message:
            images[message["key"]].take(message["ioa"], message["value"])

    worker = Worker(
        "plant_simulator.iec104_worker", {"devices": [i.spec() for i in images.values()]}, hear, lambda: None
    )
    if images:
        worker.start()
    fronts = [make_front(device, plant, 1) for device in devices if device.key not in images]
    for front in fronts:
        await front.start("127.0.0.1")
    while len(addresses) < len(images) or not all(front.ready for front in fronts if isinstance(front, WorkerFront)):
        await asyncio.sleep(0.1)
    for device, front in zip([d for d in devices if d.key not in images], fronts, strict=True):
        addresses[device.key] = front.address
    print(json.dumps(addresses), flush=True)
    while True:
        plant.step(1.0)
        for front in fronts:
            await front.refresh()
        for key, image in images.items():
            image.signals.refresh()
            worker.send({"key": key, "values": image.changes(), "clock_error_s": 0.0})
        await asyncio.sleep(1.0)


# --- OCPP charge points: only what a charging car says ------------------------------------------------------------


async def charge(count: int, url: str, period_s: float) -> None:
    """`count` charge points that charge and send meter values each `period_s`, until the process is ended."""
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    async def one(number: int) -> None:
        async with connect(f"{url}/cp-{number}", subprotocols=[Subprotocol("ocpp1.6")]) as link:
            serial = 0

            async def listen() -> None:
                async for text in link:
                    message = json.loads(text)
                    if message[0] == 2:
                        await link.send(json.dumps([3, message[1], {"status": "Accepted"}]))

            listening = asyncio.create_task(listen())

            async def call(action: str, body: dict[str, Any]) -> None:
                nonlocal serial
                serial += 1
                await link.send(json.dumps([2, str(serial), action, body]))

            await call("BootNotification", {"chargePointVendor": "Bench", "chargePointModel": "One"})
            await call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Charging"})
            energy = 0.0
            await asyncio.sleep(number / count * period_s)
            while not listening.done():
                energy += 11_000 * period_s / 3600
                values = [
                    {"value": "11000", "measurand": "Power.Active.Import", "unit": "W"},
                    {"value": f"{energy:.1f}", "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
                ]
                stamp = f"{datetime.now().astimezone().isoformat()}"
                await call(
                    "MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": values}]}
                )
                await asyncio.sleep(period_s)

    await asyncio.gather(*(one(number) for number in range(count)))


def serve_named() -> None:
    """Serve what the command line names."""
    protocol, count = sys.argv[1], int(sys.argv[2])
    if protocol == "ocpp16":
        asyncio.run(charge(count, sys.argv[3], float(sys.argv[4])))
    else:
        asyncio.run(serve(protocol, count))


if __name__ == "__main__":
    serve_named()

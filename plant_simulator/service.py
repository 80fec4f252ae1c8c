"""The running simulator: field and HTTP server in one event loop, from bound ports to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator, Sequence

import uvicorn

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.settings import Settings, publish_endpoints, withdraw_endpoints
from plant_simulator import memory
from plant_simulator.field import Field
from plant_simulator.http_app import build_app
from plant_simulator.ports import NoFreePortError, free_ports
from plant_simulator.start import KnownRegister, KnownSoc, begin_at, go_on_counting

log = get_logger(__name__)

HTTP_PORT = 15010
REMEMBER_EVERY_S = 60.0
MEMORY_FILE = "plants.json"


class _HttpServer(uvicorn.Server):
    """A server that leaves the process's signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    field: Field,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    http_port: int = HTTP_PORT,
    known_soc: Sequence[KnownSoc] = (),
    known_registers: Sequence[KnownRegister] = (),
) -> None:
    """Run the field until the process is asked to stop (SIGTERM, SIGINT).

    Parameters
    ----------
    field : Field
        What to simulate.
    settings : Settings
        Where the bound addresses are published.
    host : str
        Address to listen on.
    http_port : int
        First port to try for HTTP; 0 takes any.
    known_soc : sequence of KnownSoc
        Where the batteries begin, unless the plants remember something newer.
    known_registers : sequence of KnownRegister
        The same for energy registers.

    Raises
    ------
    ValueError
        If a state of charge or reading is known of a battery or register that is not there.
    NoFreePortError
        If no port is free.
    """
    # The library logs a refused bind and every time-out of a failing line; this service tells its own story.
    for chatty in ("pymodbus", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    recalled, remembered_at = memory.recall(field.plants, settings.home / MEMORY_FILE)
    begun = begin_at(field.plants, known_soc, remembered_at)
    counting = go_on_counting(field.plants, known_registers, remembered_at)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    with bind_http(host, http_port) as listener:
        server = _HttpServer(
            uvicorn.Config(
                build_app(field), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )
        own: dict[str, str] = {}
        try:
            await field.step(0.0)  # nobody must see what the devices were built with
            addresses = await field.open(host)
            http = asyncio.create_task(server.serve(sockets=[listener]))
            url = f"http://{host}:{listener.getsockname()[1]}"
            # Where several simulators run, each answers for its own sites.
            own |= {"simulator": url} | {f"simulator/{site_id}": url for site_id in field.plants}
            publish_endpoints(settings, addresses | {"weather": url, "market": url} | own)
            told = {"devices": len(addresses), "http": url, "recalled": recalled, "soc_given": begun}
            told["registers_given"] = counting
            log.info("simulator ready", sites=list(field.plants), **told)
            keeper = asyncio.create_task(_keep_memory(field, settings))
            await field.run(stopped)
            keeper.cancel()
            server.should_exit = True
            await http
        finally:
            # Another's may be the next on this port: no fault for ours must reach it.
            withdraw_endpoints(settings, own)
            await field.close()
            _remember(field, settings)
    log.info("simulator stopped")


async def _keep_memory(field: Field, settings: Settings) -> None:
    while True:
        await asyncio.sleep(REMEMBER_EVERY_S)
        _remember(field, settings)


def _remember(field: Field, settings: Settings) -> None:
    try:
        memory.remember(field.plants, settings.home / MEMORY_FILE)
    except OSError as error:
        log.warning("the plants' memory cannot be written", file=MEMORY_FILE, reason=str(error))


def bind_http(host: str, port: int) -> socket.socket:
    """A listening socket on `port` or the next free one.

    Raises
    ------
    NoFreePortError
        If none of the next 500 ports is free.
    """
    for candidate in free_ports(host, port):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(64)
        except OSError:
            listener.close()
            continue
        return listener
    raise NoFreePortError(f"no free port from {port} on {host}")

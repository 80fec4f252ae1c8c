"""Run the control loop of one, several or all sites."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


class Lease(StrEnum):
    """Where instances of the loop agree who commands."""

    FILE = "file"
    STORE = "store"


@app.command()
def control(
    site: Annotated[
        list[str] | None, typer.Option(help="Site to run; may be given several times. Default: all.")
    ] = None,
    lease: Annotated[
        Lease,
        typer.Option(
            help="Where instances agree who commands: a file (one machine) or the store (several machines; nothing is "
            "commanded while the store is away)."
        ),
    ] = Lease.FILE,
) -> None:
    """Measure, decide and dispatch each second until stopped; waits for the store and for sites to appear."""
    from control_loop.service import ControlService
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings

    configure_logging("control")
    service = ControlService(load_settings(), site or (), lease=lease.value)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await service.run(stop)

    asyncio.run(main())

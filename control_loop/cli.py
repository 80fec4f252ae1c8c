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
        Lease | None,
        typer.Option(
            help="Where instances agree who commands: a file (one machine) or the store (several machines; nothing is "
            "commanded while the store is away). Default: file; store with --vote."
        ),
    ] = None,
    vote: Annotated[
        int | None,
        typer.Option(
            min=3,
            max=9,
            envvar="FLEXERGY_CONTROL_VOTE",
            help="Number of instances of which a majority decides each setpoint; run as many of this command, with the "
            "lease in the store.",
        ),
    ] = None,
) -> None:
    """Measure, decide and dispatch each second until stopped; waits for the store and for sites to appear."""
    from control_loop.service import ControlService
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings

    chosen = lease or (Lease.FILE if vote is None else Lease.STORE)
    if vote is not None and chosen is Lease.FILE:
        raise typer.BadParameter("instances vote in the store: --vote needs --lease store", param_hint="--lease")
    configure_logging("control")
    service = ControlService(load_settings(), site or (), lease=chosen.value, vote=vote)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await service.run(stop)

    asyncio.run(main())

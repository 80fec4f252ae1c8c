"""Find devices in the field and register those that are approved."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Sequence
from typing import Annotated

import typer

from control_loop.discovery.found import Found, SearchError, hosts_of, numbers_of
from flexergy_pipelines.store.terminal import refuse, tenant_opened

app = typer.Typer(add_completion=False, no_args_is_help=True)

SiteId = Annotated[
    str, typer.Argument(metavar="SITE", help="Id of the site they are to belong to.", show_default=False)
]
Host = Annotated[str, typer.Argument(metavar="HOST", help="Address of the device.", show_default=False)]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of a proposal.", show_default=False)]


@app.command()
def sunspec(
    site: SiteId,
    hosts: Annotated[str, typer.Argument(metavar="HOSTS", help="Such as 10.0.0.0/28 or 10.0.0.5-10.0.0.9.")],
    ports: Annotated[str, typer.Option(help="Ports, such as 502,1502-1510.")] = "502",
    units: Annotated[str, typer.Option(help="Unit ids, such as 1,3-5.")] = "1",
    timeout: Annotated[float, typer.Option(min=0.05, max=30, help="Patience with each answer [s].")] = 1.0,
) -> None:
    """Ask ranges of addresses for SunSpec devices."""
    import logging

    from control_loop.discovery.sunspec import scan

    # Whoever answers with something else than Modbus makes the library complain.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        where = hosts_of(hosts), numbers_of(ports, 1, 65535, "ports"), numbers_of(units, 0, 255, "units")
    except SearchError as error:
        refuse(str(error))
    _propose(site, asyncio.run(scan(*where, timeout_s=timeout)))


@app.command()
def iec61850(site: SiteId, host: Host, port: Annotated[int, typer.Option(min=1, max=65535)] = 102) -> None:
    """Browse an IEC 61850 device."""
    from control_loop.discovery.devices import browse_iec61850

    try:
        found = asyncio.run(browse_iec61850(host, port))
    except SearchError as error:
        typer.echo(f"nothing was found: {error}", err=True)
        raise typer.Exit(1) from None
    _propose(site, [found])


@app.command()
def iec104(
    site: SiteId,
    host: Host,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 2404,
    common_address: Annotated[
        int | None, typer.Option(min=1, max=65534, help="Of the station; by default all behind the address are asked.")
    ] = None,
) -> None:
    """Interrogate IEC 60870-5-104 stations."""
    from control_loop.discovery.devices import interrogate_iec104

    try:
        found = asyncio.run(interrogate_iec104(host, port, common_address))
    except SearchError as error:
        refuse(str(error), 1)
    _propose(site, found)


@app.command()
def dlms(
    site: SiteId,
    host: Host,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 4059,
    keys_of: Annotated[
        str, typer.Option(metavar="METER", help="Whose keys in meter_keys.yaml are shown: SITE/METER, or those of all.")
    ] = "*",
    timeout: Annotated[float, typer.Option(min=0.05, max=60, help="Patience with each answer [s].")] = 5.0,
) -> None:
    """Ask a DLMS/COSEM meter for its name, serial number and objects."""
    from control_loop.discovery.devices import associate_dlms
    from flexergy_pipelines.metering.dlms import MeterError
    from flexergy_pipelines.metering.keys import KeysError, credentials_of
    from flexergy_pipelines.settings import load_settings

    try:
        credentials = credentials_of(load_settings(), keys_of if keys_of == "*" else f"{site}/{keys_of}")
        found = asyncio.run(associate_dlms(host, port, credentials, timeout))
    except KeysError as error:
        refuse(str(error))
    except MeterError as error:
        typer.echo(f"nothing was found: {error}", err=True)
        raise typer.Exit(1) from None
    _propose(site, [found])


@app.command("list")
def list_command(
    site: Annotated[str | None, typer.Option(help="Only of this site.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
) -> None:
    """List found devices; charge points that nobody knows introduce themselves to the control loop."""
    from flexergy_pipelines.store.field_devices import list_proposals

    with tenant_opened() as db:
        proposals = list_proposals(db, site, None if show_all else "waiting")
    for p in proposals:
        told = [str(p.identity[key]) for key in TELLING if p.identity.get(key)]
        fits = p.template or "no template"
        typer.echo(f"{p.proposal_id:>4}  {p.site_id}  {p.protocol} {p.address}  {' '.join(told)}  ({fits})  {p.status}")
    if not proposals:
        typer.echo("no device waits")


TELLING = ("manufacturer", "model", "charge_point_vendor", "charge_point_model", "name", "serial")


@app.command()
def show(number: Number) -> None:
    """Show everything a found device says of itself."""
    from flexergy_pipelines.store.registering import find_proposal

    with tenant_opened() as db:
        proposal = find_proposal(db, number)
    typer.echo(json.dumps(proposal.identity, indent=1, default=str))


@app.command()
def approve(
    number: Number,
    device: Annotated[str, typer.Option("--id", help="Id that the device gets in its site.")],
    values: Annotated[
        list[str] | None, typer.Option("--set", help="Field of the asset as name=value; may be given several times.")
    ] = None,
) -> None:
    """Register a found device: its site gets a new version."""
    from flexergy_pipelines.grid import SiteError
    from flexergy_pipelines.store import registering

    with tenant_opened() as db:
        try:
            site, version = registering.approve(
                db, number, device, registering.fields_of(values or []), getpass.getuser()
            )
        except SiteError as error:
            for problem in error.problems:
                typer.echo(problem, err=True)
            raise typer.Exit(2) from None
    typer.echo(f"{site.id}: {device} registered, version {version}")


@app.command()
def reject(number: Number) -> None:
    """Turn a found device down; it is not proposed again."""
    from flexergy_pipelines.store.field_devices import decide_proposal

    with tenant_opened() as db:
        proposal = decide_proposal(db, number, "rejected", getpass.getuser())
    typer.echo(f"{proposal.site_id}: {proposal.protocol} {proposal.address} rejected")


def _propose(site: str, found: Sequence[Found | None]) -> None:
    from flexergy_pipelines.store.field_devices import propose_device

    known = [item for item in found if item is not None]
    with tenant_opened() as db:
        for item in known:
            proposal = propose_device(
                db, site, protocol=item.protocol, address=item.address, identity=item.identity, template=item.template
            )
            fits = item.template or "no template"
            typer.echo(f"{proposal.proposal_id:>4}  {item.protocol} {item.address}  ({fits})  {proposal.status}")
    if not known:
        typer.echo("nothing was found")

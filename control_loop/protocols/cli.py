"""Links to field devices: statistics, traces, certificates, drivers' tags, and points from SCL files."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexergy_pipelines.store.terminal import refuse, tenant_opened

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

app = typer.Typer(add_completion=False, no_args_is_help=True)

SiteId = Annotated[str, typer.Argument(metavar="SITE", help="Id of a site.", show_default=False)]
NAMED = 50
"""Devices of a file that a message lists."""
ORDER_S = 20.0
"""How long an order for a charge point may wait to be taken and answered."""
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="Id of a device of the site.", show_default=False)]


@app.command()
def links(
    site: SiteId, hours: Annotated[float, typer.Option(min=0.1, max=24 * 366, help="How far back.")] = 1.0
) -> None:
    """Show how well each device's link worked."""
    from flexergy_pipelines.store.link_statistics import link_summary

    now = datetime.now(UTC)
    with tenant_opened() as db:
        rows = link_summary(db, site, now - timedelta(hours=hours), now).rows(named=True)
    if not rows:
        typer.echo(f"{site}: no link was heard of in the last {hours:g} h; does `flexergy control` run?")
    for row in rows:
        state = "up" if row["connected"] else "DOWN"
        success = "-" if row["success"] is None else f"{100 * row['success']:.1f} %"
        latency = "-" if row["latency_s"] is None else f"{1000 * row['latency_s']:.0f} ms"
        moved = (row["bytes_sent"] + row["bytes_received"]) / 1e6
        network = f" over {row['network_type']}" if row["network_type"] else ""
        typer.echo(
            f"{row['device_id']:<16} {state:<4} {row['protocol']}{network}: {row['requests']} requests, {success} "
            f"answered, {latency}, {row['retries']} retries, {row['reconnects']} connects, {moved:.2f} MB"
            + ("" if row["signal_dbm"] is None else f", signal {row['signal_dbm']:.0f} dBm")
            + (f"; last error: {row['last_error']}" if row["last_error"] else "")
        )


@app.command()
def trace(
    site: SiteId,
    device: DeviceId,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to listen.")] = 10.0,
) -> None:
    """Print what goes over a device's link, decoded, while the control loop talks to it."""
    from flexergy_pipelines.link_trace import listen
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store.sites import load_site

    with tenant_opened() as db:
        known = [item.id for item in load_site(db, site).devices()]
    if device not in known:
        refuse(f"{site}: no device {device}, there are {', '.join(known) or 'none'}", 2)
    seen = 0
    for lines in listen(load_settings(), site, device, seconds):
        for line in lines:
            typer.echo(line)
        seen += len(lines)
    if not seen:
        refuse(f"{site}/{device}: nothing was heard in {seconds:g} s; does `flexergy control` run?", 1)


@app.command("import-scl")
def import_scl(  # noqa: PLR0917 - each is an option of the command
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ICD, IID, CID or SCD file.", show_default=False)],
    ied: Annotated[str | None, typer.Option(help="Device of the file; needed when there are several.")] = None,
    template: Annotated[str, typer.Option(help="Template of the connection.")] = "generic_esc",
    host: Annotated[str | None, typer.Option(help="Address of the device; else the file's.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 102,
    show_all: Annotated[bool, typer.Option("--all", help="List every data object instead.")] = False,
) -> None:
    """Print the connection of an IEC 61850 device, as YAML for the site's file, from its SCL file."""
    import yaml

    from control_loop.protocols.scl import SclError, ied_names, read_scl

    try:
        names = ied_names(file) if ied is None else []
        chosen = ied if ied is not None else names[0] if len(names) == 1 else None
        found = read_scl(file, chosen) if chosen is not None else []
        if len(found) != 1:
            names = names or ied_names(file)
            known = ", ".join(names[:NAMED]) + (f", ... {len(names) - NAMED} more" if len(names) > NAMED else "")
            refuse(f"{file}: {'name one of its devices by --ied' if ied is None else f'has no device {ied}'}: {known}")
        (device,) = found
    except SclError as error:
        refuse(str(error))
    if show_all:
        for point in device.points:
            takes = "takes orders" if point.commanded else ""
            typer.echo(f"{point.reference:<50} {point.cdc:<4} {point.quantity or '':<30} {takes}".rstrip())
        for report in device.reports:
            typer.echo(f"{report:<50} report control block")
        return
    try:
        connection = device.connection(template=template, host=host or device.host or "127.0.0.1", port=port)
    except SclError as error:
        refuse(f"{file}: {error}")
    typer.echo(yaml.safe_dump({"connection": connection}, sort_keys=False))


@app.command()
def certificates(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files are, or are made.")],
    name: Annotated[str, typer.Option(help="Name of the files, and of whom they stand for.")] = "manager",
    host: Annotated[
        list[str] | None, typer.Option(help="Host name or address of a server; may be given several times.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 825,
) -> None:
    """Make a key and certificate, and first the field network's own authority where the folder has none."""
    from flexergy_pipelines.grid.certificates import AUTHORITY, create_authority, issue

    try:
        if not (folder / f"{AUTHORITY}.key").exists():
            create_authority(folder)
            typer.echo(f"{folder / AUTHORITY}.pem: authority made; keep {AUTHORITY}.key apart from this machine")
        issue(folder, name, common_name=name, hosts=host or (), days=days)
    except (OSError, ValueError) as error:
        refuse(f"{folder}: {error}")
    typer.echo(f"{folder / name}.pem and .key: made, valid for {days} days")


@app.command("id-tag")
def id_tag(
    tag: Annotated[str, typer.Argument(metavar="TAG", help="Tag that the driver shows.", show_default=False)],
    holder: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    block: Annotated[bool, typer.Option("--block", help="Refuse it from now on.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Forget it.")] = False,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (UTC) it is good for.")] = None,
) -> None:
    """Let a driver charge, block or forget his tag; with no tag in the store, every tag may charge."""
    from flexergy_pipelines.store.charging_access import delete_id_tag, save_id_tag

    end = None if until is None else until.replace(tzinfo=UTC) + timedelta(days=1)
    with tenant_opened() as db:
        if delete:
            delete_id_tag(db, tag, actor=_actor())
        else:
            status = "blocked" if block else "accepted"
            save_id_tag(db, tag, actor=_actor(), holder=holder, status=status, valid_until=end)
    over = end is not None and end <= datetime.now(UTC)
    good = f"has expired on {until:%Y-%m-%d}" if over else "may charge"
    typer.echo(f"{tag.strip().upper()}: {'forgotten' if delete else 'blocked' if block else good}")


@app.command("charger-key")
def charger_key(
    site: SiteId,
    charge_point: Annotated[str, typer.Argument(metavar="CHARGE_POINT", show_default=False)],
) -> None:
    """Make a charge point's key for basic authentication and print it once; the store keeps only its hash."""
    from flexergy_pipelines.store.charging_access import new_charge_point_key

    with tenant_opened() as db:
        _manager_of(db, site, charge_point)
        key = new_charge_point_key(db, site, charge_point, actor=_actor())
    typer.echo(key)


@app.command("charger")
def charger(
    site: SiteId,
    charge_point: Annotated[str, typer.Argument(metavar="CHARGE_POINT", show_default=False)],
    action: Annotated[str, typer.Argument(metavar="ACTION", show_default=False)],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...", show_default=False)] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the event log.")] = "by command line",
) -> None:
    """Ask something of a charge point.

    Charging: start TAG [CONNECTOR [LIMIT_KW]], stop [TRANSACTION], unlock [CONNECTOR], reserve TAG MINUTES [CONNECTOR],
    cancel RESERVATION, availability operative|inoperative [CONNECTOR], schedule [SECONDS], clear.

    Settings: configuration [KEY]..., configure KEY VALUE, local-list [show|send|clear], cache, data VENDOR [MESSAGE
    [DATA]].

    Service: trigger MESSAGE [CONNECTOR], reset [soft|hard], firmware URL, diagnostics URL, log security|diagnostics
    URL.
    """
    from control_loop.protocols.charger_orders import ChargerOrder, check
    from flexergy_pipelines.store.commands import IN_FORCE, OPEN, command_answer, write_command

    order = ChargerOrder(charge_point, action, tuple(arguments or ()))
    try:
        check(order)
    except ValueError as error:
        refuse(str(error), 2)
    with tenant_opened() as db:
        asset_id = _manager_of(db, site, charge_point)
        until = datetime.now(UTC) + timedelta(seconds=ORDER_S)
        number = write_command(db, site, asset_id, order.quantity, None, reason, _actor(), until)
        deadline = time.monotonic() + ORDER_S
        while (answer := command_answer(db, number))[0] in {OPEN, IN_FORCE} and time.monotonic() < deadline:
            time.sleep(0.2)
    if answer[0] == IN_FORCE:
        refuse(f"{charge_point}: it was taken, and no answer came within {ORDER_S:g} s", 1)
    if answer[0] == OPEN:
        refuse(f"{charge_point}: nobody took the order within {ORDER_S:g} s; does `flexergy control` run?", 1)
    if answer[0] != "done":
        refuse(answer[1], 1)
    typer.echo(answer[1])


def _manager_of(db: TenantStore, site: str, charge_point: str) -> str:
    """The charging manager of a charge point; where the site has none of that name, the command ends here."""
    from flexergy_pipelines.grid import EvChargingManager
    from flexergy_pipelines.store.sites import load_site

    managers = [c for c in load_site(db, site).controllers if isinstance(c, EvChargingManager)]
    known = {p.identity or p.id: manager.id for manager in managers for p in manager.charge_points}
    if charge_point not in known:
        refuse(f"{site}: no charge point {charge_point}, there are {', '.join(known) or 'none'}", 2)
    return known[charge_point]


def _actor() -> str:
    return getpass.getuser()

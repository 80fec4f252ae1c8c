"""Read a meter: its latest values, or those of a period, from the store."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import polars as pl

    from flexergy_pipelines.grid import Device, Site
    from flexergy_pipelines.settings import Settings
    from flexergy_pipelines.store import TenantStore

app = typer.Typer(add_completion=False)

_PERIOD = re.compile(r"^(\d{1,6})(min|h|d)$")
_UNITS = {"min": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3660)
_NAMES = {0: "good", 1: "suspect", 2: "bad", 3: "missing", 4: "estimated"}


@app.command()
def read(  # noqa: PLR0917 - options of a command
    meter: Annotated[str, typer.Argument(help="Id of a meter or asset, such as pcc-meter or ess-1.")],
    site: Annotated[str | None, typer.Option(help="Its site; needed when several sites have one of this id.")] = None,
    last: Annotated[
        str | None, typer.Option(help="All values of this long until now: 30min, 1h, 2d. Without it, the latest.")
    ] = None,
    begin: Annotated[str | None, typer.Option("--from", help="All values from this time on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="With --from: until before this time; else now.")] = None,
    ask_device: Annotated[
        bool, typer.Option("--now", help="Ask the device itself: its present values, or with --from its load profile.")
    ] = False,
    obis: Annotated[
        str | None, typer.Option(help="With --now: any object of a DLMS meter, such as 1-0:31.7.0; `all` lists them.")
    ] = None,
    interface: Annotated[
        int | None, typer.Option("--class", min=1, help="With --obis: its class, if not listed.")
    ] = None,
    attribute: Annotated[int, typer.Option(min=1, max=127, help="With --obis: which attribute.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show values of a meter or of any other asset."""
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError, open_store

    if ask_device and last:
        _refuse("--now asks the device itself; for its load profile give --from and --to instead of --last")
    if last and (begin or until):
        _refuse("give either --last or --from and --to")
    if until and not begin:
        _refuse("--to needs --from")
    if obis and (not ask_device or begin):
        _refuse("--obis needs --now: the device itself is asked for it, and for what it holds at present")
    span = parse_period(last) if last else None
    settings = load_settings()
    try:
        with open_store(settings) as store:
            db = store.tenant(settings.tenant)
            found, asset_id = find_meter(db, meter, site)
            now = datetime.now(UTC)
            bounds = _bounds(begin, until, found, now)
            if obis:
                _show_object(settings, found, meter, asset_id, (obis, interface, attribute), as_json=as_json)
                return
            if ask_device:
                frame = device_values(settings, found, meter, asset_id, now, bounds)
            elif bounds is not None:
                frame = stored_values(db, found.id, asset_id, bounds)
            else:
                frame = values_of(db, found.id, asset_id, now, span)
    except StoreError as error:
        _refuse(str(error))
    units = {point.quantity: point.unit for point in found.points()}
    units |= {point.quantity: point.unit for point in found.points() if point.asset_id == asset_id}
    rows = [
        {
            "quantity": row["quantity"],
            "time": row["time"].astimezone(found.zone).isoformat(),
            "value": row["value"],
            "unit": units.get(row["quantity"], ""),
            "quality": _NAMES.get(row["quality"], str(row["quality"])),
        }
        for row in frame.iter_rows(named=True)
    ]
    if as_json:
        print(json.dumps({"site": found.id, "meter": meter, "asset": asset_id, "values": rows}, indent=1))
    elif rows:
        _table(found.id, meter, rows)
    else:
        print(f"{found.id}/{meter}: no value" + (f" in the last {last}" if last else " was ever read"))


def parse_period(text: str) -> timedelta:
    """``30min``, ``1h`` or ``2d`` as a duration; exits with code 2 on anything else."""
    match = _PERIOD.match(text)
    if not match or int(match[1]) == 0:
        _refuse(f"--last {text}: give a number and min, h or d, such as 30min, 1h or 2d")
    span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if span > _LONGEST:
        _refuse(f"--last {text}: at most {_LONGEST.days}d")
    return span


def _bounds(begin: str | None, until: str | None, site: Site, now: datetime) -> tuple[datetime, datetime] | None:
    """The period that --from and --to name; times without offset are the site's own."""
    if begin is None:
        return None

    def moment(text: str, option: str) -> datetime:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            _refuse(f"{option} {text}: is not ISO 8601, such as 2026-03-01T12:00 or 2026-03-01")
        return (time.replace(tzinfo=site.zone) if time.tzinfo is None else time).astimezone(UTC)

    start, end = moment(begin, "--from"), moment(until, "--to") if until else now
    if start >= end:
        _refuse(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
    if end - start > _LONGEST:
        _refuse(f"--from {begin}: at most {_LONGEST.days} days at once")
    return start, end


def stored_values(db: TenantStore, site_id: str, asset_id: str, bounds: tuple[datetime, datetime]) -> pl.DataFrame:
    """Rows ``quantity, time, value, quality`` that the store holds of a period."""
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.sites import load_site

    points = [(p.asset_id, p.quantity) for p in load_site(db, site_id).points() if p.asset_id == asset_id]
    frame = read_readings(db, site_id, *bounds, points)
    return frame.select("quantity", "time", "value", "quality").sort("quantity", "time")


def find_meter(db: TenantStore, meter: str, site_id: str | None) -> tuple[Site, str]:
    """The site and the asset that a meter's or an asset's id stands for; exits with code 2 when there is none."""
    from flexergy_pipelines.store.sites import list_sites, load_site
    from ingestion.meters.points import metered_asset

    known = list_sites(db)
    if site_id is not None and site_id not in known:
        _refuse(f"--site {site_id}: no such site; known: {', '.join(known) or 'none'}")
    found: list[tuple[Site, str]] = []
    names: list[str] = []
    for name in [site_id] if site_id else known:
        site = load_site(db, name)
        meters = {item.id: metered_asset(site, item.id) for item in site.meters}
        assets = {asset.id: asset.id for asset in site.assets()}
        names += [f"{name}/{item}" for item in meters]
        if meter in meters or meter in assets:
            found.append((site, (assets | meters)[meter]))
    if not found:
        _refuse(f"'{meter}' is no meter or asset; meters: {', '.join(names) or 'none'}")
    if len(found) > 1:
        _refuse(f"'{meter}' exists at {', '.join(site.id for site, _ in found)}; say which with --site")
    return found[0]


def values_of(db: TenantStore, site_id: str, asset_id: str, now: datetime, span: timedelta | None) -> pl.DataFrame:
    """Rows ``quantity, time, value, quality``: of the period, or the newest of each quantity.

    Notes
    -----
    The newest is the control loop's image of the field when it is younger than the last stored reading.
    """
    import polars as pl

    from flexergy_pipelines.store.live import read_live
    from flexergy_pipelines.store.readings import latest_reading_time, read_readings
    from flexergy_pipelines.store.sites import load_site

    columns = ["quantity", "time", "value", "quality"]
    points = [(p.asset_id, p.quantity) for p in load_site(db, site_id).points() if p.asset_id == asset_id]
    if span is not None:
        frame = read_readings(db, site_id, now - span, now, points)
        return frame.select(columns).sort("quantity", "time")
    live = read_live(db, site_id).filter(pl.col("asset_id") == asset_id).select(columns)
    newest = latest_reading_time(db, site_id, asset_id)
    if newest is not None:
        stored = read_readings(db, site_id, newest - timedelta(hours=1), newest + timedelta(microseconds=1), points)
        live = pl.concat([live.cast({"quality": pl.Int64}), stored.select(columns).cast({"quality": pl.Int64})])
    return live.sort("time").group_by("quantity").last().sort("quantity").select(columns)


def _device_of(site: Site, meter: str, asset_id: str) -> Device:
    devices = [d for d in site.devices() if d.id == meter] or [
        d for d in site.devices() if any(asset.id == asset_id for asset in d.assets)
    ]
    if not devices:
        _refuse(f"{meter}: no device of {site.id} measures it")
    return devices[0]


def _show_object(
    settings: Settings, site: Site, meter: str, asset_id: str, wanted: tuple[str, int | None, int], *, as_json: bool
) -> None:
    """Print any object of a DLMS meter, or the list of them; exits with code 1 when the meter does not give it."""
    import asyncio

    from flexergy_pipelines.metering.keys import KeysError, access_of
    from flexergy_pipelines.settings import read_endpoints
    from ingestion.meters.bulk import address_of
    from ingestion.meters.device import DeviceError
    from ingestion.meters.objects import full_name, list_objects, read_object

    device = _device_of(site, meter, asset_id)
    if device.connection.protocol != "dlms":
        _refuse(f"{meter} speaks {device.connection.protocol}; only DLMS meters have objects by OBIS identifiers")
    obis, interface, attribute = wanted
    try:
        where = *address_of(device, read_endpoints(settings)), max(1.0, device.connection.timeout_s)
        keys = access_of(settings, device)
        if obis == "all":
            listed = asyncio.run(list_objects(device, *where, keys))
            told: Any = [{"class": kind, "obis": name} for kind, name in listed]
            text = "\n".join(f"class {kind:>3}  {name}" for kind, name in listed) or "the meter lists no objects"
        else:
            zone = device.connection.zone(site.zone)
            found = asyncio.run(
                read_object(device, *where, keys, full_name(obis), zone=zone, interface=interface, attribute=attribute)
            )
            told = {"obis": found.obis, "class": found.interface, "attribute": found.attribute}
            told |= {"value": found.value, "unit": found.unit}
            value = f"{found.value:g}" if isinstance(found.value, float) else found.value
            text = f"{found.obis} attribute {found.attribute} (class {found.interface}): {value} {found.unit}".rstrip()
    except (KeysError, ValueError) as error:
        _refuse(str(error))
    except DeviceError as error:
        print(f"flexergy read: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(json.dumps(told, indent=1) if as_json else text)


def device_values(  # noqa: PLR0917 - whom to ask, and when
    settings: Settings,
    site: Site,
    meter: str,
    asset_id: str,
    now: datetime,
    bounds: tuple[datetime, datetime] | None,
) -> pl.DataFrame:
    """Rows ``quantity, time, value, quality`` that the device gives; exits with code 1 when it gives none."""
    import asyncio

    import polars as pl

    from flexergy_pipelines.metering.keys import KeysError, access_of
    from flexergy_pipelines.settings import read_endpoints
    from ingestion.meters.bulk import address_of
    from ingestion.meters.device import DeviceError, read_device
    from ingestion.meters.dlms_device import read_instant, read_profile

    device = _device_of(site, meter, asset_id)
    dlms = device.connection.protocol == "dlms"
    if bounds is not None and not dlms:
        _refuse(f"{meter} speaks {device.connection.protocol}, which has no load profile; leave out --now")
    host, port = address_of(device, read_endpoints(settings))
    patience_s = max(1.0, device.connection.timeout_s)
    rows: list[tuple[str, datetime, float | None, int]]
    try:
        if bounds is not None:
            keys = access_of(settings, device)
            zone = device.connection.zone(site.zone)
            profile = asyncio.run(
                read_profile(device, host, port, patience_s, keys, start=bounds[0], end=bounds[1], zone=zone)
            )
            rows = [(row.quantity, row.time, row.value, row.quality) for row in (*profile.rows, *profile.counters)]
        else:
            asked = (
                read_instant(device, host, port, patience_s, access_of(settings, device))
                if dlms
                else read_device(device, host, port, patience_s)
            )
            values = asyncio.run(asked).values
            rows = [
                (quantity, now, value, 3 if value is None else 0)
                for (asset, quantity), value in values.items()
                if asset == asset_id
            ]
    except KeysError as error:
        _refuse(str(error))
    except DeviceError as error:
        print(f"flexergy read: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    schema = {"quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64, "quality": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("quantity", "time")


def _table(site_id: str, meter: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{site_id}/{meter}")
    for name in ("quantity", "time", "value", "unit", "quality"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:g}"
        table.add_row(row["quantity"], row["time"], value, row["unit"], row["quality"])
    Console().print(table)


def _refuse(message: str) -> NoReturn:
    print(f"flexergy read: {message}", file=sys.stderr)
    raise typer.Exit(2)

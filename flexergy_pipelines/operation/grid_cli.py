"""Give, list and withdraw orders of the grid operator, and set its P(f) curves."""

from __future__ import annotations

import getpass
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from flexergy_pipelines.store.terminal import refuse, tenant_opened

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

app = typer.Typer(add_completion=False, no_args_is_help=True)

Site = Annotated[str, typer.Argument(metavar="SITE", help="Id of the site.", show_default=False)]
Asset = Annotated[
    str, typer.Argument(metavar="ASSET", help="Asset, or pcc for the exchange (import positive).", show_default=False)
]
Reason = Annotated[str, typer.Option(help="Why; kept in the log.", show_default=False)]
Source = Annotated[str, typer.Option(help="Who orders it.")]
From = Annotated[str | None, typer.Option("--from", help="Start, ISO 8601, in the site's zone; default: now.")]
LONG = timedelta(days=366)


@app.command()
def limit(
    site: Site,
    asset: Asset,
    reason: Reason,
    *,
    at_least: Annotated[float | None, typer.Option(help="Least power [kW].")] = None,
    at_most: Annotated[float | None, typer.Option(help="Most power [kW].")] = None,
    since: From = None,
    until: Annotated[str | None, typer.Option(help="End, as --from; default: until it is withdrawn.")] = None,
    source: Source = "grid operator",
) -> None:
    """Limit an asset or the exchange."""
    from flexergy_pipelines.operation.grid_orders import give_order

    with tenant_opened() as db:
        starts_at = datetime.now(UTC) if since is None else _time(db, site, since)
        number = give_order(
            db,
            site,
            asset,
            starts_at=starts_at,
            ends_at=None if until is None else _time(db, site, until),
            minimum_kw=at_least,
            maximum_kw=at_most,
            source=source,
            reason=reason,
            user=getpass.getuser(),
        )
    typer.echo(f"order {number}")


@app.command()
def setpoint(
    site: Site,
    asset: Asset,
    power_kw: Annotated[float, typer.Argument(metavar="KW", help="Power wanted.", show_default=False)],
    until: Annotated[str, typer.Option(help="When it lapses, as --from.", show_default=False)],
    reason: Reason,
    *,
    ramp: Annotated[float | None, typer.Option(help="How fast [kW/s]; default: the site's own ramp.")] = None,
    since: From = None,
    source: Source = "grid operator",
) -> None:
    """Set the power of an asset or of the exchange; a negative one goes after `--`."""
    from flexergy_pipelines.operation.grid_orders import give_order

    with tenant_opened() as db:
        starts_at = datetime.now(UTC) if since is None else _time(db, site, since)
        number = give_order(
            db,
            site,
            asset,
            starts_at=starts_at,
            ends_at=_time(db, site, until),
            setpoint_kw=power_kw,
            ramp_kw_per_s=ramp,
            source=source,
            reason=reason,
            user=getpass.getuser(),
        )
    typer.echo(f"order {number}")


@app.command()
def curve(
    site: Site,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="A storage system.", show_default=False)],
    points: Annotated[
        list[str], typer.Argument(metavar="HZ:KW...", help="Points such as 49.8:50 50:0 50.2:-50.", show_default=False)
    ],
    *,
    tolerance_kw: Annotated[float, typer.Option(help="Deviation that still counts as delivered.")] = 1.0,
    since: From = None,
    until: Annotated[str | None, typer.Option(help="End, as --from; default: until the next curve.")] = None,
    source: Source = "grid operator",
) -> None:
    """Set the power that a storage system owes at each frequency, beyond its schedule (P(f))."""
    from flexergy_pipelines.store.frequency_curves import FrequencyCurve, write_frequency_curve
    from flexergy_pipelines.store.sites import load_site

    pairs = tuple(_point(text) for text in points)
    with tenant_opened() as db:
        storages = [a.id for a in load_site(db, site).assets() if a.kind == "ess"]
        if asset not in storages:
            refuse(f"{asset}: no storage system of {site}; it has {', '.join(storages) or 'none'}")
        starts_at = datetime.now(UTC) if since is None else _time(db, site, since)
        ends_at = None if until is None else _time(db, site, until)
        write_frequency_curve(db, site, FrequencyCurve(asset, starts_at, pairs, tolerance_kw, ends_at, source))
    typer.echo(f"{asset}: P(f) of {len(pairs)} points from {starts_at:%Y-%m-%d %H:%M:%S} UTC")


@app.command()
def orders(site: Site) -> None:
    """List the orders that stand, or will within a year."""
    from flexergy_pipelines.operation.grid_orders import orders_between

    now = datetime.now(UTC)
    with tenant_opened() as db:
        found = orders_between(db, site, now, now + LONG)
    for order in found:
        end = "withdrawn" if order.ends_at is None else f"{order.ends_at:%Y-%m-%d %H:%M:%S} UTC"
        typer.echo(
            f"{order.order_id}  {order.asset_id}: {order.text}, from {order.starts_at:%Y-%m-%d %H:%M:%S} UTC until "
            f"{end}  ({order.source}: {order.reason})"
        )
    if not found:
        typer.echo("no orders")


@app.command()
def withdraw(
    site: Site,
    number: Annotated[int, typer.Argument(metavar="ORDER", help="Its number.", show_default=False)],
) -> None:
    """End an order now."""
    from flexergy_pipelines.operation.grid_orders import withdraw_order

    with tenant_opened() as db:
        withdraw_order(db, site, number, user=getpass.getuser())
    typer.echo(f"order {number} withdrawn")


def _time(db: TenantStore, site: str, text: str) -> datetime:
    from flexergy_pipelines.store.sites import load_site

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"time {text!r} is not ISO 8601; give one such as 2026-03-29T12:00 or 2026-03-29T12:00+02:00")
    return moment if moment.tzinfo else moment.replace(tzinfo=load_site(db, site).zone)


def _point(text: str) -> tuple[float, float]:
    frequency, _, power = text.partition(":")
    try:
        pair = float(frequency), float(power)
    except ValueError:
        refuse(f"point {text!r}: give HZ:KW, such as 49.8:50")
    if not all(math.isfinite(number) for number in pair):
        refuse(f"point {text!r}: frequency and power must be finite numbers")
    return pair

"""Write readings of any points and period to CSV or Parquet."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexergy_pipelines.store.terminal import refuse, tenant_opened

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

app = typer.Typer(add_completion=False)


@app.command()
def export(  # noqa: PLR0917 - a command line, not called by place
    site: Annotated[str, typer.Argument(metavar="SITE", help="Id of the site.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.", show_default=False)],
    start: Annotated[str, typer.Option(help="Start, ISO 8601; without a zone in the site's.", show_default=False)],
    end: Annotated[str, typer.Option(help="End (not included), as --start.", show_default=False)],
    point: Annotated[list[str] | None, typer.Option(help="ASSET/QUANTITY; may be given several times.")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Clean values instead of what came in.")] = False,
) -> None:
    """Write readings with start <= time < end; in bounded memory, and the file appears only when it is complete."""
    from flexergy_pipelines.store.export import export_readings
    from flexergy_pipelines.store.sites import load_site

    points = [_point(text) for text in point] if point else None
    if out.suffix not in {".csv", ".parquet"}:
        refuse(f"--out {out}: ends with '{out.suffix}'; give a name that ends with .csv or .parquet")
    with tenant_opened() as db:
        zone = load_site(db, site).zone
        try:
            rows = export_readings(db, site, _time(start, zone), _time(end, zone), out, points=points, clean=clean)
        except OSError as error:
            refuse(f"{out}: cannot be written ({error.strerror or error})", 1)
    typer.echo(f"{out}: {rows} rows")


def _point(text: str) -> tuple[str, str]:
    asset, slash, quantity = text.partition("/")
    if not (asset and slash and quantity):
        refuse(f"--point {text!r}: give ASSET/QUANTITY, such as pv-1/active_power_kw")
    return asset, quantity


def _time(text: str, zone: ZoneInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"time {text!r} is not ISO 8601; give one such as 2026-03-29 or 2026-03-29T12:00+02:00")
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)

"""Cleanse a file of measured series: detect what is wrong, fill gaps, and flag each change."""

from __future__ import annotations

import json as encoder
import math
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(add_completion=False)

KINDS = ("meter", "load", "pv", "wind")


@app.command()
def clean(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet; first column time, other numeric columns are series.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the clean table (.csv or .parquet).")],
    kind: Annotated[str | None, typer.Option(help="meter, load, pv or wind; told by its looks when left out.")] = None,
    capacity: Annotated[float | None, typer.Option(help="Nameplate power of each series [kW].")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print counts by reason and coverage as JSON.")] = False,
) -> None:
    """Cleanse FILE into OUT: same columns and rows, plus <column>_flag (empty: untouched, else the reason)."""
    from flexergy_pipelines.quality.files import FileError
    from flexergy_pipelines.quality.pieces import clean_file

    if kind is not None and kind not in KINDS:
        _refuse(f"--kind {kind} is unknown, allowed are {', '.join(KINDS)}")
    if capacity is not None and not (math.isfinite(capacity) and capacity > 0):
        _refuse(f"--capacity {capacity} is not allowed: should be above 0 kW")
    try:
        if out.resolve() == file.resolve():
            raise FileError(f"{out}: is the raw file itself; raw data stay as they are")
        report = clean_file(file, out, kind, capacity)  # pyright: ignore[reportArgumentType]
    except FileError as error:
        _refuse(str(error))
    summary = {"file": str(file), "out": str(out), **report.as_dict()}
    if json:
        typer.echo(encoder.dumps(summary))
        return
    typer.echo(f"{file}: {report.rows} rows, every {report.step_minutes:g} min")
    for name, channel in report.channels.items():
        found = ", ".join(f"{count} {flag}" for flag, count in channel.counts.items()) or "nothing found"
        typer.echo(f"  {name} ({channel.kind}): {channel.coverage:.1%} untouched; {found}")
        if channel.observable is not None:
            period = channel.observable
            typer.echo(f"    most observable {period.first} to {period.last}: {period.reason}")


def _refuse(message: str) -> NoReturn:
    typer.echo(f"flexergy clean: {message}", err=True)
    raise typer.Exit(2)

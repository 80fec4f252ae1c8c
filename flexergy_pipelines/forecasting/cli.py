"""Backtest the forecasting models on a file: accuracy against the naives, model by model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from flexergy_pipelines.forecasting.targets import Target

app = typer.Typer(add_completion=False)


class KindOption(StrEnum):
    """What the target is."""

    load = "load"
    pv = "pv"
    wind = "wind"
    price = "price"
    ev = "ev"


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a date such as 2015-01-01", param_hint=option) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _levels(text: str | None) -> tuple[float, ...]:
    """``99`` gives 0.01 to 0.99; ``0.1,0.5,0.9`` gives these."""
    from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES

    if text is None:
        return DEFAULT_QUANTILES
    hint = "--quantiles"
    try:
        if text.strip().isdigit() and int(text) >= 1:
            count = int(text)
            return tuple(round(k / (count + 1), 6) for k in range(1, count + 1))
        levels = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a number of levels nor levels such as 0.1,0.5,0.9", param_hint=hint
        ) from error
    if not levels or min(levels) <= 0 or max(levels) >= 1:
        raise typer.BadParameter(f"{text!r}: levels lie between 0 and 1", param_hint=hint)
    return levels


@app.callback(invoke_without_command=True)
def backtest(  # noqa: PLR0917 - the options of the command
    data: Annotated[Path, typer.Option(help="CSV or Parquet file with a time column.")],
    target: Annotated[str, typer.Option(help="Column to forecast.")],
    kind: Annotated[KindOption, typer.Option(help="What the column is; decides features, models and bounds.")],
    weather: Annotated[
        str | None, typer.Option(help="Columns known in advance (weather, load forecasts), by comma.")
    ] = None,
    horizon: Annotated[str, typer.Option(help="Length of each forecast from local midnight.")] = "24h",
    step: Annotated[str | None, typer.Option(help="Step of the forecast; default: that of the data.")] = None,
    gate: Annotated[str, typer.Option(help="Local time on the day before at which each forecast is issued.")] = "10:00",
    start: Annotated[
        str | None, typer.Option("--from", help="First day of the test; default: the last 26 weeks.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the test.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE: one of several series in the file; may be repeated.")
    ] = None,
    time_col: Annotated[str | None, typer.Option(help="Time column; default: found by name or type.")] = None,
    issue_col: Annotated[str | None, typer.Option(help="Column with the issue time of the weather in the row.")] = None,
    capacity: Annotated[
        float | None, typer.Option(help="Rated power: upper bound, and what nMAE is relative to.")
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(help="Levels by comma, or their number (99); default: deciles.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Local time zone, also of stamps without one.")] = "UTC",
    country: Annotated[str | None, typer.Option(help="ISO code for public holidays.")] = None,
    latitude: Annotated[
        float | None, typer.Option(min=-90, max=90, help="For the sun's position, degrees north.")
    ] = None,
    longitude: Annotated[float | None, typer.Option(min=-180, max=180, help="Degrees east.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write every forecast made to this CSV or Parquet file.")] = None,
    seed: Annotated[int, typer.Option(help="Of sampling and trees.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Forecast a column day by day as production would have, and score it against the naives.

    The models see nothing newer than each day's gate; choice, weights and calibration come from past errors.
    """
    import polars as pl

    from flexergy_pipelines.forecasting.dataset import Window, backtest_frame
    from flexergy_pipelines.forecasting.schedule import gate_minute, hours_of
    from flexergy_pipelines.forecasting.screening import beyond_capacity, screened
    from flexergy_pipelines.forecasting.tables import (
        DataError,
        infer_step,
        not_numbers,
        numeric,
        one_series,
        read_table,
    )

    first, last = _moment(start, "--from"), _moment(end, "--to")
    levels = _levels(quantiles)
    try:
        if first and last and first >= last:
            raise ValueError(f"from {start} is not before to {end}")
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"out {out}: there is no folder {out.parent}")
        frame = read_table(data, time_col, time_zone)
        timeless = frame["time"].null_count()
        frame = frame.filter(pl.col("time").is_not_null())
        issued = _issue_column(frame, issue_col)
        keys = ["time", *([issued] if issued else [])]
        frame = one_series(frame, where or [], keys)
        repeated = frame.height - frame.select(keys).unique().height
        step_minutes = round(hours_of(step) * 60) if step else infer_step(frame)
        window = Window(first, last, gate_minute(gate), hours_of(horizon))
        described = _target(
            data.stem, target, kind, step_minutes=step_minutes, horizon_hours=window.horizon_hours, capacity=capacity,
            time_zone=time_zone, country=country, latitude=latitude, longitude=longitude,
        )  # fmt: skip
        measured = frame.select("time", numeric(frame, target, "target").alias("value"))
        history, notes = screened(measured.unique("time", keep="last") if issued else measured, described.kind)
        notes += beyond_capacity(history, capacity)
        known, dropped = _weather(frame, weather, issued, data, target=target, time_zone=time_zone)
        with _Progress(quiet=as_json) as progress:
            report = backtest_frame(history, known, described, window, levels, seed=seed, progress=progress)
        if repeated:
            notes.append(f"{repeated} rows repeat a stamp and are averaged")
        if timeless:
            notes.append(f"{timeless} rows have no time stamp and are left out")
        notes += not_numbers(frame, target, "target")
        report.summary["notes"] += [*notes, *dropped]
        if out is not None:
            _write(report.forecasts, out)
    except (DataError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(report.summary))
    else:
        _print(report.summary)


def _target(
    name: str, column: str, kind: KindOption, *, step_minutes: int, horizon_hours: float, capacity: float | None,
    time_zone: str, country: str | None, latitude: float | None, longitude: float | None,
) -> Target:  # fmt: skip
    from flexergy_pipelines.forecasting.calendars import known_country
    from flexergy_pipelines.forecasting.targets import Location, Target

    if horizon_hours <= 0:
        raise ValueError(f"horizon {horizon_hours:g} h is outside 1 to 168 h")
    if country is not None and not known_country(country):
        raise ValueError(f"country {country!r} is not an ISO code such as NL of a country whose holidays are known")
    if (latitude is None) != (longitude is None):
        raise ValueError("latitude and longitude go together; one of them is missing")
    where = Location(latitude, longitude) if latitude is not None and longitude is not None else None
    return Target(
        name, column, "value", kind.value, time_zone, step_minutes=step_minutes,
        horizon_hours=max(1, round(horizon_hours)), country=country, location=where, capacity=capacity,
    )  # fmt: skip


def _issue_column(frame: pl.DataFrame, name: str | None) -> str | None:
    from flexergy_pipelines.forecasting.tables import find_column

    if name is None:
        return None
    found = find_column(frame, name)
    if found is None:
        raise ValueError(f"issue-col {name!r} is not a column; the data has {', '.join(frame.columns[:30])}")
    return found


def _weather(
    frame: pl.DataFrame, names: str | None, issued: str | None, data: Path, *, target: str, time_zone: str
) -> tuple[pl.DataFrame | None, list[str]]:
    """Columns known in advance, and what was left out of them."""
    from flexergy_pipelines.forecasting.tables import columns_of, find_column, not_numbers, numeric, stamps

    columns = columns_of(frame, names, "weather") if names else []
    if find_column(frame, target) in columns:
        raise ValueError(f"weather {target!r} is the target: its values are not known in advance")
    empty = [name for name in columns if frame[name].null_count() == frame.height or not _any_number(frame[name])]
    notes = [f"weather {name!r} holds no values and is left out" for name in empty]
    columns = [name for name in columns if name not in empty]
    notes += [note for name in columns for note in not_numbers(frame, name, "weather")]
    if not columns:
        return None, notes
    known = frame.select("time", *(numeric(frame, name, "weather").alias(name) for name in columns))
    if issued is None:
        return known.unique("time", keep="last", maintain_order=True), notes
    # rows that hold measured values only have no issue time
    known = known.filter(frame[issued].is_not_null())
    issued_at = stamps(frame[issued].drop_nulls(), data, time_zone).alias("issued_at")
    return known.with_columns(issued_at).drop_nulls("issued_at"), notes


def _any_number(column: pl.Series) -> bool:
    """Whether there is a finite number in the column; text that is none is an error of its own, later."""
    return not column.dtype.is_float() or bool(column.is_finite().any())


class _Progress:
    """A progress bar on standard error, so that standard output stays clean for JSON."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True, disable=quiet)
        self._task = self._bar.add_task("backtest", total=1.0)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, text: str, share: float) -> None:
        self._bar.update(self._task, completed=share, description=text)


def _write(frame, out: Path) -> None:
    try:
        if out.suffix.lower() in (".parquet", ".pq"):
            frame.write_parquet(out)
        else:
            frame.write_csv(out)
    except OSError as error:
        raise ValueError(f"out {out}: cannot be written ({error.strerror or error})") from error


def _print(summary: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary['target']}: {summary['rows']} rows; mostly served by {summary['champion']}")
    for heading in ("model", "MAE", "nMAE %", "RMSE", "pinball", "P10-P90 covers %"):
        table.add_column(heading, justify="left" if heading == "model" else "right")

    def add(name: str, row: dict) -> None:
        def text(key: str, factor: float = 1.0) -> str:
            value = row.get(key)
            return "" if value is None else f"{value * factor:.4g}"

        cells = (text("mae"), text("nmae", 100), text("rmse"), text("pinball"), text("coverage_80", 100))
        table.add_row(name, *cells)

    add("served", summary["served"])
    for name, row in sorted(summary["models"].items(), key=lambda item: item[1]["mae"] or float("inf")):
        add(name, row)
    for name in ("naive_week", "naive_day", "persistence"):
        add(name, summary["naive"][name])
    console = Console()
    console.print(table)
    mae, naive = summary["served"]["mae"], summary["naive"]["mae"]
    if mae is not None and naive:
        better = "better than" if mae < naive else "not better than"
        console.print(f"served / best naive ({summary['naive']['name']}): {mae / naive:.3f}, {better} the naive")
    for note in summary["notes"]:
        console.print(f"note: {note}")

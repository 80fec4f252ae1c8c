"""Study a case on paper: schedule, cost by part, wear, comparison and sizing."""

from __future__ import annotations

import json as json_text
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from flexergy_pipelines.optimization.study.case import Study

app = typer.Typer(add_completion=False)


@app.command()
def study(  # noqa: PLR0917 - every parameter is an option of the command line
    case: Annotated[Path | None, typer.Argument(help="Case file (YAML); its series lie in the same folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for schedule, report and chart.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without storage, and with perfect foresight.")
    ] = False,
    sweep: Annotated[str | None, typer.Option(help="<asset>.<field>=<from>:<to>:<step>, e.g. for sizing.")] = None,
    why: Annotated[bool, typer.Option("--why", help="Say for each stretch of operation why it is so.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help="Put the schedule into the JSON.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a case and stop.")] = False,
) -> None:
    """Study a case: plan it, price it, compare it."""
    from flexergy_pipelines.optimization.errors import ProblemError, SolveError
    from flexergy_pipelines.optimization.study.case import case_schema, load_case

    if schema:
        typer.echo(json_text.dumps(case_schema(), indent=1))
        return
    if case is None:
        _refuse("CASE is missing: give a case file, see docs/study.md")
    try:
        loaded = load_case(case)
        with _solver_is_silent():
            result = _sweep(loaded, sweep) if sweep else _study(loaded, out, compare=compare, inline=inline)
    except ProblemError as error:
        for line in error.problems:
            typer.echo(f"flexergy study: {line}", err=True)
        raise typer.Exit(2) from None
    except SolveError as error:
        typer.echo(f"flexergy study: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        _refuse(f"{error.filename or out}: {error.strerror}")
    if json:
        typer.echo(json_text.dumps(result, indent=1))
    elif sweep:
        _print_sweep(result["sweep"])
    else:
        _print(loaded.name, result)
        for reason in result["why"] if why else ():
            typer.echo(f"  {reason['sentence']}")


@contextmanager
def _solver_is_silent() -> Iterator[None]:
    """Keep standard output for the result: the solver's library prints remarks there, past its own switch."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _study(loaded: Study, out: Path | None, *, compare: bool, inline: bool) -> dict[str, Any]:
    from flexergy_pipelines.optimization.study.report import report, write_files
    from flexergy_pipelines.optimization.study.run import run_study

    result = run_study(loaded, compare=compare)
    if out is None:
        return report(result, inline=inline)
    written = write_files(result, out, loaded.name)
    return report(result, inline=True) if inline else written


def _sweep(loaded: Study, text: str) -> dict[str, Any]:
    from flexergy_pipelines.optimization.study.run import run_sweep

    return {"sweep": run_sweep(loaded, text)}


def _print(name: str, result: dict[str, Any]) -> None:
    known = result["bound_eur"] is not None
    typer.echo(f"{name}: {result['status']}, " + (f"gap {result['gap']:.2g}" if known else "gap unknown"))
    bound = f"proven: not below {result['bound_eur']:,.2f}" if known else "nothing proven in the time"
    typer.echo(f"  cost {result['objective_eur']:,.2f} EUR ({bound})")
    for part, eur in sorted(result["costs"].items(), key=lambda item: -abs(item[1])):
        if abs(eur) >= 0.005:
            typer.echo(f"    {part.replace('_', ' '):<28}{eur:>14,.2f}")
    for battery, kpi in result["kpis"]["batteries"].items():
        typer.echo(
            f"  {battery}: {kpi['equivalent_full_cycles']:.2f} full cycles, {kpi['discharged_kwh']:,.1f} kWh out, "
            f"SoC {kpi['soc_lowest']:.0%} to {kpi['soc_highest']:.0%}, {kpi['soc_end']:.0%} at the end"
        )
    for violation in result["violations"]:
        typer.echo(
            f"  not kept: {violation['message']}, up to {violation['largest']:g} {violation['unit']} "
            f"in {violation['steps']} steps from {violation['start']}"
        )
    if "comparison" in result:
        other = result["comparison"]
        captured = "" if other["captured"] is None else f" ({other['captured']:.0%} of what was possible)"
        typer.echo(f"  without storage {other['without_storage']['objective_eur']:,.2f} EUR")
        typer.echo(f"  perfect foresight {other['perfect_foresight']['objective_eur']:,.2f} EUR")
        typer.echo(f"  gain by storage {other['gain_eur']:,.2f} EUR{captured}")
    if "expected_cost_eur" in result:
        typer.echo(
            f"  over {len(result['scenarios'])} scenarios {result['expected_cost_eur']:,.2f} EUR expected, worst cases "
            f"{result['cvar_eur']:,.2f} EUR; deciding on the forecast alone costs "
            f"{result['value_of_stochastic_eur']:,.2f} EUR more"
        )
    if isinstance(result["schedule"], str):
        typer.echo(f"  written: {result['schedule']} and beside it schedule.parquet, report.json, chart.svg")


def _print_sweep(rows: list[dict[str, Any]]) -> None:
    field = next(iter(rows[0]))
    typer.echo(f"{field:>28}{'cost EUR':>16}  status")
    for row in rows:
        typer.echo(f"{row[field]:>28,.3f}{row['objective_eur']:>16,.2f}  {row['status']}")


def _refuse(message: str) -> NoReturn:
    typer.echo(f"flexergy study: {message}", err=True)
    raise typer.Exit(2)

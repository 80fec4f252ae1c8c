"""Simulate sites: battery physics and real protocol servers to talk to, with faults on demand."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

MAX_SPEED = 3600.0


class _RunsSites(TyperGroup):
    """`flexergy simulate SITE ...` runs sites; the other words are commands to a running simulator."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = args if args and args[0] in {*self.commands, "--help"} else ["run", *args]
        return super().parse_args(ctx, words)


app = typer.Typer(
    add_completion=False, cls=_RunsSites, help=__doc__, subcommand_metavar="SITE... [OPTIONS] | COMMAND [ARGS]..."
)


@app.command()
def run(  # noqa: PLR0917 - command-line options are named
    sites: Annotated[list[str] | None, typer.Argument(help="Sample site ids or site YAML files.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="All sample sites.")] = False,
    speed: Annotated[float, typer.Option(help="Simulated seconds in a second; other services keep real time.")] = 1.0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of weather, market, state and faults; next free if taken.")
    ] = 15010,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 1,
    soc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SITE/BATTERY=]FRACTION[@TIME]",
            help="State of charge to begin with; with the time of a reading only if nothing newer is remembered.",
        ),
    ] = None,
    register: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE/ASSET/QUANTITY=KWH[@TIME]",
            help="Reading of an energy register to go on from; with its time only if nothing newer is remembered.",
        ),
    ] = None,
) -> None:
    """Run the plant simulator until it is stopped (what `flexergy simulate SITE` does)."""
    if not 0 < speed <= MAX_SPEED:
        _refuse(f"--speed {speed:g} is outside 0..{MAX_SPEED:g}")
    if not sites and not demo:
        _refuse("name the sites to simulate, or --demo for all sample sites")
    import asyncio
    import os

    # One process serves many devices from small frames: it needs no thread pool, and gives freed memory back at once.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")

    from flexergy_pipelines.grid import SystemClock
    from flexergy_pipelines.grid.replay import load_replay
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings
    from plant_simulator.clock import AcceleratedClock
    from plant_simulator.field import Field
    from plant_simulator.ports import NoFreePortError
    from plant_simulator.service import serve
    from plant_simulator.start import parse_register, parse_soc

    settings = load_settings()
    try:
        known_soc = [parse_soc(text) for text in soc or []]
        registers = [parse_register(text) for text in register or []]
        models = _load_sites(sites or [], demo=demo)
        configure_logging("simulate")
        machine = SystemClock()
        clock = machine if speed == 1.0 else AcceleratedClock(speed)
        models = [_completed(site) for site in models]
        # Whoever commands a fast plant lives in the machine's time: there its orders live as long as it means them to.
        field = Field(
            [(site, load_replay(settings, site)) for site in models], clock, seed, settings.home / "certificates",
            timers=machine,
        )  # fmt: skip
    except (ValueError, KeyError, OSError) as error:
        _refuse(str(error.args[0]) if isinstance(error, KeyError) else str(error))
    try:
        asyncio.run(
            serve(field, settings, host=host, http_port=http_port, known_soc=known_soc, known_registers=registers)
        )
    except (NoFreePortError, ValueError) as error:
        _refuse(str(error))


@app.command()
def fault(  # noqa: PLR0917 - command-line options are named
    target: Annotated[str, typer.Argument(help="<site>/<device>, <site>/<asset>, weather or market; see `targets`.")],
    kind: Annotated[str, typer.Argument(help="What fails: `flexergy simulate targets` tells what each can have.")],
    seconds: Annotated[float | None, typer.Option("--for", help="Heal by itself after so many seconds.")] = None,
    delay: Annotated[
        float | None, typer.Option(help="Seconds by which a slow target delays each answer.  [default: 1]")
    ] = None,
    value: Annotated[
        float | None,
        typer.Option(help="frequency Hz, voltage share, wrong_scale factor, clock_skew s, hot_cells K, bms_alarm bit."),
    ] = None,
    phase: Annotated[int | None, typer.Option(help="Phase 1, 2 or 3 of voltage; none: all.")] = None,
) -> None:
    """Let something fail in the running simulator."""
    given: dict[str, Any] = {"duration_s": seconds, "delay_s": delay, "value": value, "phase": phase}
    for option, number in (("--for", seconds), ("--delay", delay), ("--value", value)):
        if number is not None and not math.isfinite(number):
            _refuse(f"{option} {number} is not a finite number")
    if delay is not None and kind != "slow":
        _refuse(f"--delay is for slow, not for {kind}")
    body = {name: number for name, number in given.items() if number is not None}
    url = _url_of(target)
    typer.echo(_told(_call("POST", "/faults", {"target": target, "kind": kind, **body}, url=url)))


@app.command()
def faults() -> None:
    """List the faults in force."""
    rows = [row for url in _urls() for row in _call("GET", "/faults", url=url)]
    for row in rows:
        typer.echo(_told(row))
    if not rows:
        typer.echo("nothing fails")


@app.command()
def targets(site: Annotated[str | None, typer.Argument(help="Only those of one site.")] = None) -> None:
    """List what can fail in the running simulator, and how."""
    possible = {target: kinds for url in _urls() for target, kinds in _call("GET", "/faults/possible", url=url).items()}
    sites = sorted({target.partition("/")[0] for target in possible if "/" in target})
    if site is not None and site not in sites:
        _refuse(f"site {site} is not simulated; known: {', '.join(sites)}")
    for target, kinds in possible.items():
        if site is None or target.startswith(f"{site}/"):
            typer.echo(f"{target}: {' '.join(kinds)}")


@app.command()
def heal(
    what: Annotated[str | None, typer.Argument(help="Number of a fault, or a target; none heals all.")] = None,
) -> None:
    """Heal one fault, those of one target, or all.

    Where several simulators run, a number is that of the one that started last.
    """
    if what is not None and what.isdigit():
        healed = _call("DELETE", f"/faults/{what}", url=_url_of(""))["cleared"]
    elif what is not None:
        healed = _call("DELETE", "/faults", query={"target": what}, url=_url_of(what))["cleared"]
    else:
        healed = sum(_call("DELETE", "/faults", url=url)["cleared"] for url in _urls())
    typer.echo(f"healed {healed}")


def _told(fault: dict[str, Any]) -> str:
    """A fault in a line: what it is, what it goes by, and when it ends by itself."""
    words = [f"fault {fault['id']}: {fault['target']} {fault['kind']}"]
    words += [f"{name} {fault[name]:g}" for name in ("value", "delay_s", "phase") if name in fault]
    return " ".join([*words, *([f"for {fault['left_s']:.0f} s more"] if "left_s" in fault else [])])


def _url_of(target: str) -> str:
    """Address of the simulator that has a target: that of its site, else the one that started last."""
    published = _simulators()
    return published.get(f"simulator/{target.partition('/')[0]}", next(iter(published.values())))


def _urls() -> list[str]:
    """Addresses of all simulators of this installation that answer; of one where none does."""
    import httpx

    known = list(dict.fromkeys(_simulators().values()))
    answering = []
    for url in known:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/health", timeout=5.0)
            answering.append(url)
    return answering or known[:1]


def _simulators() -> dict[str, str]:
    """Published addresses: ``simulator`` is the one that started last, ``simulator/<site>`` that of a site."""
    from flexergy_pipelines.settings import load_settings, read_endpoints

    published = read_endpoints(load_settings())
    found = {name: url for name, url in sorted(published.items()) if name.partition("/")[0] == "simulator"}
    if not found:
        _refuse("no simulator has published its address here; start one with: flexergy simulate --demo")
    return found


def _call(
    method: str, path: str, body: dict[str, Any] | None = None, *, url: str, query: dict[str, str] | None = None
) -> Any:
    import httpx

    try:
        answer = httpx.request(method, f"{url}{path}", json=body, params=query, timeout=5.0)
    except httpx.HTTPError as error:
        _refuse(f"the simulator at {url} does not answer: {error}")
    try:
        content = answer.json()
    except ValueError:
        _refuse(f"what answers at {url} is no simulator: {method} {path} gives {answer.status_code}")
    if answer.is_error:
        _refuse(content.get("reason", f"{method} {path} gives {answer.status_code}"))
    return content


def _load_sites(names: list[str], *, demo: bool) -> list[Site]:
    from flexergy_pipelines.grid import load_site_file
    from flexergy_pipelines.grid.samples import sample_site, sample_sites

    sites = [load_site_file(Path(name)) if name.endswith((".yaml", ".yml")) else sample_site(name) for name in names]
    if demo:
        sites += [site for site in sample_sites() if site.id not in {s.id for s in sites}]
    return sites


def _completed(site: Site) -> Site:
    from flexergy_pipelines.logs import get_logger
    from plant_simulator.usual_series import with_usual_series

    completed, added = with_usual_series(site)
    if added:
        get_logger(__name__).info(
            "usual shapes stand in for series that the site does not name", site=site.id, assets=added
        )
    return completed


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"simulate: {reason}", err=True)
    raise typer.Exit(2)

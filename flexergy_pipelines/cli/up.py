"""Start the whole platform and keep it running; --demo adds sample sites and a simulated plant."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flexergy_pipelines.cli import services
from flexergy_pipelines.cli.chain import ChainFailedError, run_chain
from flexergy_pipelines.cli.errors import CannotStartError
from flexergy_pipelines.cli.handover import stored_registers, stored_soc
from flexergy_pipelines.cli.home_lock import HomeBusyError, acquire, end_leftovers
from flexergy_pipelines.cli.progress import Progress
from flexergy_pipelines.cli.samples import import_samples
from flexergy_pipelines.cli.starting import Starting
from flexergy_pipelines.cli.supervisor import ServiceFailedError, ServiceSpec, Supervisor
from flexergy_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from flexergy_pipelines.store import Store, TenantStore

app = typer.Typer(add_completion=False)

FIRST_DISPATCH_TIMEOUT_S = 90.0
NEEDED_DISK_BYTES = 1_500_000_000


@app.command()
def up(
    demo: Annotated[bool, typer.Option(help="Sample sites with a simulated plant.")] = False,
    once: Annotated[bool, typer.Option(help="Run the chain once, print the summary, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Start database, field, pipeline, screens and API; one Ctrl-C ends them all."""
    from flexergy_pipelines.store import StoreError

    settings = load_settings()
    progress = Progress()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell may have left SIGINT ignored
        signal.signal(name, _interrupt)
    try:
        _run(settings, progress, demo=demo, once=once, as_json=as_json)
    except (CannotStartError, HomeBusyError, ServiceFailedError, ChainFailedError, StoreError) as error:
        progress.failed("stopped", str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        progress.failed("stopped", f"{where}{error.strerror or error} (`flexergy doctor` tells more)")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        progress.say("stopped")
        raise typer.Exit(0 if not once else 130) from None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(settings: Settings, progress: Progress, *, demo: bool, once: bool, as_json: bool) -> None:
    begun = datetime.now(UTC)
    check_home(settings)
    with ExitStack() as stack:
        lock = acquire(settings.run_dir)
        stack.callback(lock.release)
        for name in end_leftovers(settings.run_dir):
            progress.say(f"ended {name}, left running by an earlier start")
        settings.endpoints_file.unlink(missing_ok=True)
        store, env = stack.enter_context(_database(settings, progress))
        db, password = _tenant(store, settings)
        if demo:
            import_samples(db, settings, env, progress)
        supervisor = Supervisor(settings.run_dir, settings.logs_dir, env)
        stack.callback(_stop, supervisor, progress)
        addresses = services.choose_ports()
        plants = [services.simulator(settings, stored_soc(db), stored_registers(db))] if demo else []
        field = [*plants, services.control()]
        screens = [] if once else [services.api(addresses), services.dashboards(addresses)]
        watch = Starting(supervisor, progress)
        watch.start(*field, *screens)
        models = services.mlflow(addresses, store.url("mlflow"), settings.artifacts_dir)
        if not once and _has_plan(db):
            watch.start(models)
            _request_replans(db)
        elif demo:
            watch.wait(field)
            run_chain({**os.environ, **env}, settings.logs_dir / "pipeline.log", progress)
        if not once:
            # After the chain: two that make the same tables for the first time would get in each other's way.
            watch.start(*_dagster_services(addresses, env), models)
        watch.wait()
        if demo:
            with progress.step("first setpoints of the plan dispatched"):
                _wait_for_dispatch(db, begun)
        urls = {} if once else {name: addresses.url(name) for name in services.DEFAULT_PORTS}
        _print_report(db, urls, password, progress, as_json=as_json)
        if not once:
            _watch(supervisor, progress)


def check_home(settings: Settings) -> None:
    """Refuse a home that cannot hold the platform.

    Raises
    ------
    CannotStartError
        When the folder cannot be created or written, or the disk is nearly full.
    """
    try:
        for folder in (settings.home, settings.run_dir, settings.logs_dir, settings.inbox_dir, settings.artifacts_dir):
            folder.mkdir(parents=True, exist_ok=True)
        probe = settings.run_dir / "probe"
        probe.write_bytes(b"flexergy")
        probe.unlink()
    except OSError as error:
        raise CannotStartError(
            f"cannot write to {error.filename or settings.home}: {error.strerror}; "
            "free space or make it writable, or set FLEXERGY_HOME to another folder"
        ) from None
    free = shutil.disk_usage(settings.home).free
    if free < NEEDED_DISK_BYTES:
        raise CannotStartError(
            f"only {free / 1e6:.0f} MB free on {settings.home}; at least {NEEDED_DISK_BYTES / 1e6:.0f} MB are needed"
        )


@contextmanager
def _database(settings: Settings, progress: Progress) -> Iterator[tuple[Store, dict[str, str]]]:
    """The store, migrated, and the environment through which the services find it."""
    from flexergy_pipelines.store import StoreError, open_store

    with ExitStack() as stack:
        try:
            with progress.step("database ready"):
                store = open_store(settings)
                stack.callback(store.close)
                store.migrate()
        except StoreError as error:
            raise CannotStartError(str(error)) from None
        yield (
            store,
            {
                "FLEXERGY_HOME": str(settings.home),
                "FLEXERGY_TENANT": settings.tenant,
                "FLEXERGY_DATABASE_URL": store.app_url,
                "FLEXERGY_ARTIFACTS": str(settings.artifacts_dir),
                "DAGSTER_HOME": str(settings.dagster_home),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "MLFLOW_TRACKING_URI": store.url("mlflow"),
                "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore"),
            },
        )


def _tenant(store: Store, settings: Settings) -> tuple[TenantStore, str | None]:
    from flexergy_pipelines.access import ensure_admin

    if settings.tenant not in {tenant.name for tenant in store.tenants()}:
        store.create_tenant(settings.tenant)
    db = store.tenant(settings.tenant)
    return db, ensure_admin(db)


def _dagster_services(addresses: services.Addresses, env: dict[str, str]) -> list[ServiceSpec]:
    """Dagster's processes, as the orchestration room declares them."""
    words = services.flexergy("pipeline", "instance", "--port", str(addresses.ports["dagster"]))
    answer = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ServiceFailedError(f"Dagster's instance could not be prepared: {answer.stderr.strip().splitlines()[-1:]}")
    commands: dict[str, list[str]] = json.loads(answer.stdout)
    urls = {"webserver": f"{addresses.url('dagster')}/server_info"}
    return [ServiceSpec(f"dagster-{name}", words, ready_url=urls.get(name)) for name, words in commands.items()]


def _has_plan(db: TenantStore) -> bool:
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.sites import list_sites

    now = datetime.now(UTC)
    sites = list_sites(db)
    return bool(sites) and all(read_active_plan(db, site, now) is not None for site in sites)


def _request_replans(db: TenantStore) -> None:
    from flexergy_pipelines.store.commands import request_replan
    from flexergy_pipelines.store.sites import list_sites

    for site in list_sites(db):
        request_replan(db, site, "the platform was started again")


def _wait_for_dispatch(db: TenantStore, since: datetime) -> None:
    from flexergy_pipelines.operation.summary import dispatched_setpoints
    from flexergy_pipelines.store.sites import list_sites

    deadline = time.monotonic() + FIRST_DISPATCH_TIMEOUT_S
    waiting = list_sites(db)
    while waiting:
        waiting = [site for site in waiting if not dispatched_setpoints(db, site, since)]
        if waiting and time.monotonic() > deadline:
            raise ServiceFailedError(f"no setpoint reached {', '.join(waiting)} in {FIRST_DISPATCH_TIMEOUT_S:.0f} s")
        if waiting:
            time.sleep(0.5)


def _print_report(
    db: TenantStore, urls: dict[str, str], password: str | None, progress: Progress, *, as_json: bool
) -> None:
    from flexergy_pipelines.cli import report
    from flexergy_pipelines.operation.summary import summarize
    from flexergy_pipelines.store.sites import list_sites

    now = datetime.now(UTC)
    summaries = [summarize(db, site, now) for site in list_sites(db)]
    if as_json:
        print(report.as_json(summaries, urls, password, progress.elapsed_s, progress.timings_s), flush=True)
    else:
        print(report.as_text(summaries, urls, password, progress.elapsed_s), flush=True)


def _watch(supervisor: Supervisor, progress: Progress) -> None:
    while True:
        for line in supervisor.supervise_once():
            progress.say(f"{datetime.now(UTC):%H:%M:%S} UTC  {line}")
        time.sleep(0.5)


def _stop(supervisor: Supervisor, progress: Progress) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    with progress.step("all services stopped"):
        supervisor.stop_all()

"""Dagster's instance: its folder, its database, and the processes that serve it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from flexergy_pipelines.settings import Settings

MODULE = "assets_defs.definitions"
LOCATION = "flexergy"
MOST_RUNS = 2
"""Runs at a time: each is a process of 300–500 MB, and the machine it was made for has two cores."""


def prepare_instance(settings: Settings, *, shared_code_server: bool = True) -> Path:
    """Write ``dagster.yaml`` and ``workspace.yaml`` into Dagster's home; the same again on every start.

    Parameters
    ----------
    settings : Settings
        Tells the folder, and the server whose database ``dagster`` is used.
    shared_code_server : bool
        Whether webserver and daemon share one process that holds the definitions, or each start their own.

    Returns
    -------
    Path
        Dagster's home.

    Raises
    ------
    StoreError
        When the database server cannot be reached.
    """
    from flexergy_pipelines.store import open_store

    with open_store(settings) as store:
        url = store.url("dagster", "psycopg2")
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    _write(home / "dagster.yaml", instance_config(url, home), private=True)
    _write(home / "workspace.yaml", workspace_config(_socket(settings) if shared_code_server else None))
    return home


def instance_config(url: str, home: Path) -> dict[str, Any]:
    """Contents of ``dagster.yaml``.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of Dagster's own database. The driver must be psycopg2: with psycopg 3, SQLAlchemy's default,
        Dagster's notification of stored events is a syntax error.
    home : Path
        Folder for logs of runs.
    """
    return {
        "storage": {"postgres": {"postgres_url": url}},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        # Steps retry by their own policy; what is retried here is a run whose process was killed.
        "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
        "run_monitoring": {"enabled": True, "start_timeout_seconds": 180, "poll_interval_seconds": 60},
        "concurrency": {
            "runs": {"max_concurrent_runs": MOST_RUNS},
            "pools": {"default_limit": 1, "granularity": "run"},
        },
        "schedules": {"use_threads": True, "num_workers": 2},
        "sensors": {"use_threads": True, "num_workers": 2},
        "retention": {
            "schedule": {"purge_after_days": 14},
            "sensor": {"purge_after_days": {"skipped": 1, "failure": 14, "started": 14, "success": 14}},
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(home / "compute_logs")},
        },
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(home / "artifacts")},
        },
    }


def workspace_config(socket: Path | None) -> dict[str, Any]:
    """Contents of ``workspace.yaml``: the shared code server's socket, or the module for everyone to load."""
    if socket is None:
        return {"load_from": [{"python_module": {"module_name": MODULE, "location_name": LOCATION}}]}
    return {"load_from": [{"grpc_server": {"socket": str(socket), "location_name": LOCATION}}]}


def commands(settings: Settings, port: int, *, shared_code_server: bool = True) -> dict[str, list[str]]:
    """Command lines of Dagster's processes, in the order to start them.

    Parameters
    ----------
    settings : Settings
        Tells Dagster's home.
    port : int
        Of the webserver, on 127.0.0.1.
    shared_code_server : bool
        As for `prepare_instance`.
    """
    tools = Path(sys.executable).parent
    workspace = ["-w", str(settings.dagster_home / "workspace.yaml")]
    found: dict[str, list[str]] = {}
    after: list[str] = []
    if shared_code_server:
        found["code_server"] = [
            str(tools / "dagster"), "api", "grpc", "--module-name", MODULE, "--socket", str(_socket(settings)),
            "--location-name", LOCATION, "--inject-env-vars-from-instance", "--log-level", "warning",
        ]  # fmt: skip
        after = [sys.executable, "-m", "assets_defs.after", str(_socket(settings))]
    found["webserver"] = [
        *after, str(tools / "dagster-webserver"), *workspace, "--host", "127.0.0.1", "--port", str(port),
        "--dagster-log-level", "warning",
    ]  # fmt: skip
    found["daemon"] = [*after, str(tools / "dagster-daemon"), "run", *workspace, "--log-level", "warning"]
    return found


def _socket(settings: Settings) -> Path:
    """A UNIX socket's path may have 107 bytes only, so that of a deep home moves to the temporary folder."""
    import hashlib
    import tempfile

    wanted = settings.dagster_home / "code.sock"
    if len(str(wanted).encode()) < 100:
        return wanted
    name = hashlib.sha256(str(settings.home).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"flexergy-{name}.sock"


def _write(path: Path, content: dict[str, Any], *, private: bool = False) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.touch(mode=0o600 if private else 0o644)
    scratch.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    scratch.replace(path)

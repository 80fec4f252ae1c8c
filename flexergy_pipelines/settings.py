"""Where the platform keeps its state and how its parts find each other, from the environment.

Every service reads the same few variables, so that `flexergy up` can start them as processes of one command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Paths and addresses of one installation.

    Attributes
    ----------
    home : Path
        Folder of all state (`FLEXERGY_HOME`, default `./.flexergy`).
    database_url : str or None
        SQLAlchemy URL of an own PostgreSQL (`FLEXERGY_DATABASE_URL`); None means the embedded server under `home`.
    tenant : str
        Subsystem that command-line tools act for (`FLEXERGY_TENANT`, default ``demo``).
    """

    home: Path
    database_url: str | None
    tenant: str

    @property
    def postgres_dir(self) -> Path:
        return self.home / "postgres"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def run_dir(self) -> Path:
        """Files that only live as long as the services: pid files, endpoints, sockets."""
        return self.home / "run"

    @property
    def spool_dir(self) -> Path:
        return self.home / "spool"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def inbox_dir(self) -> Path:
        """Drop folder of meter files."""
        return self.home / "inbox"

    @property
    def artifacts_dir(self) -> Path:
        """MLflow's artifact root: `FLEXERGY_ARTIFACTS`, else `./mlruns`, or under `home` when FLEXERGY_HOME is set."""
        chosen = os.environ.get("FLEXERGY_ARTIFACTS")
        if chosen:
            return Path(chosen)
        return self.home / "mlruns" if os.environ.get("FLEXERGY_HOME") else Path("mlruns").absolute()

    @property
    def endpoints_file(self) -> Path:
        """Addresses that services were really bound to, as ``{name: address}``."""
        return self.run_dir / "endpoints.json"


def load_settings() -> Settings:
    """Read the settings from the environment."""
    home = Path(os.environ.get("FLEXERGY_HOME") or ".flexergy").absolute()
    return Settings(
        home=home,
        database_url=os.environ.get("FLEXERGY_DATABASE_URL") or None,
        tenant=os.environ.get("FLEXERGY_TENANT") or "demo",
    )


def read_endpoints(settings: Settings) -> dict[str, str]:
    """Addresses the running services published, empty when none runs.

    Keys are ``<site>/<device>`` for field devices (value ``host:port``) and service names
    (``weather``, ``market``, ``mlflow``, ...) with URLs as values.
    """
    try:
        return json.loads(settings.endpoints_file.read_text())
    except FileNotFoundError:
        return {}


def publish_endpoints(settings: Settings, endpoints: dict[str, str]) -> None:
    """Merge `endpoints` into the published ones, atomically and safe against another publisher."""
    _change_endpoints(settings, lambda published: published | endpoints)


def withdraw_endpoints(settings: Settings, endpoints: dict[str, str]) -> None:
    """Take `endpoints` out of the published ones; a name that means another address by now stays."""
    _change_endpoints(settings, lambda published: dict(published.items() - endpoints.items()))


def _change_endpoints(settings: Settings, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    import fcntl

    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with (settings.run_dir / "endpoints.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = change(read_endpoints(settings))
        scratch = settings.endpoints_file.with_suffix(".tmp")
        scratch.write_text(json.dumps(merged, indent=1, sort_keys=True))
        scratch.replace(settings.endpoints_file)

"""The services of the platform and the command line of each; all are processes of the same installation."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flexergy_pipelines.cli.ports import next_free
from flexergy_pipelines.cli.supervisor import ServiceSpec
from flexergy_pipelines.settings import Settings, read_endpoints

DEFAULT_PORTS = {"dashboards": 8501, "api": 8600, "dagster": 3000, "mlflow": 5000}


@dataclass(frozen=True)
class Addresses:
    """Ports that the services of this start are bound to, on 127.0.0.1."""

    ports: dict[str, int]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


def choose_ports() -> Addresses:
    """The usual port of each service, or the next free one."""
    ports: dict[str, int] = {}
    for name, wanted in DEFAULT_PORTS.items():
        ports[name] = next_free(wanted, set(ports.values()))
    return Addresses(ports)


def flexergy(*words: str) -> list[str]:
    """The command line of a subcommand, run by this interpreter."""
    return [sys.executable, "-m", "flexergy_pipelines.cli", *words]


def simulator(settings: Settings, known_soc: Sequence[str] = (), known_registers: Sequence[str] = ()) -> ServiceSpec:
    """The simulated plants, whose batteries and registers begin at what is known of them."""

    def published() -> bool:
        return "simulator" in read_endpoints(settings)

    soc = [word for known in known_soc for word in ("--soc", known)]
    registers = [word for known in known_registers for word in ("--register", known)]
    return ServiceSpec("simulator", flexergy("simulate", "--demo", *soc, *registers), ready_when=published)


def control() -> ServiceSpec:
    return ServiceSpec("control", flexergy("control"))


def api(addresses: Addresses) -> ServiceSpec:
    return ServiceSpec(
        "api", flexergy("api", "--port", str(addresses.ports["api"])), ready_url=f"{addresses.url('api')}/health"
    )


def dashboards(addresses: Addresses) -> ServiceSpec:
    port = str(addresses.ports["dashboards"])
    return ServiceSpec(
        "dashboards", flexergy("dashboards", "--port", port), ready_url=f"{addresses.url('dashboards')}/_stcore/health"
    )


def mlflow(addresses: Addresses, backend_url: str, artifacts_dir: Path) -> ServiceSpec:
    """MLflow's own server app in one process.

    `mlflow server` is a second process that only starts this one and waits: it costs 230 MB and 9 s of a core. The
    variables are those it would set (mlflow/server/constants.py of the pinned version).
    """
    words = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(addresses.ports["mlflow"]), "--workers", "1"]
    return ServiceSpec(
        "mlflow",
        [sys.executable, *words, "--log-level", "warning", "mlflow.server.fastapi_app:app"],
        env={
            "_MLFLOW_SERVER_FILE_STORE": backend_url,
            "_MLFLOW_SERVER_REGISTRY_STORE": backend_url,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(artifacts_dir),
            "_MLFLOW_SGI_NAME": "uvicorn",
            "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        ready_url=f"{addresses.url('mlflow')}/health",
    )

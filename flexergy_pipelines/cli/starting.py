"""Services on their way up: started side by side, waited for together, each reported when it is ready."""

from __future__ import annotations

import time

from flexergy_pipelines.cli.progress import Progress
from flexergy_pipelines.cli.supervisor import ServiceSpec, Supervisor

READY_TIMEOUT_S = 120.0


class Starting:
    """Services on their way up: started at once, waited for together."""

    def __init__(self, supervisor: Supervisor, progress: Progress) -> None:
        self._supervisor = supervisor
        self._progress = progress
        self._begun: dict[str, float] = {}
        self._ready: set[str] = set()

    def start(self, *specs: ServiceSpec) -> None:
        """Start what has not been started yet; does not wait."""
        for spec in specs:
            if spec.name not in self._begun:
                self._begun[spec.name] = time.monotonic()
                self._supervisor.start(spec)

    def wait(self, specs: list[ServiceSpec] | None = None) -> None:
        """Wait for some of the started services, or for all.

        Raises
        ------
        ServiceFailedError
            When one has ended, or is not ready in time.
        """
        names = list(self._begun) if specs is None else [spec.name for spec in specs]
        self._supervisor.wait_ready([name for name in names if name not in self._ready], READY_TIMEOUT_S, self._say)

    def _say(self, name: str) -> None:
        self._ready.add(name)
        self._progress.done(f"{name} ready", time.monotonic() - self._begun[name])

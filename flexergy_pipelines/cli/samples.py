"""Brings the sample sites in, each by a process of its own, side by side."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flexergy_pipelines.cli import services
from flexergy_pipelines.cli.errors import CannotStartError
from flexergy_pipelines.cli.progress import Progress
from flexergy_pipelines.settings import Settings

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


def import_samples(db: TenantStore, settings: Settings, env: dict[str, str], progress: Progress) -> None:
    """Import the sample sites that are not there yet, each by a process of its own, side by side.

    Raises
    ------
    CannotStartError
        When an import failed; nothing of that site was written.
    """
    from flexergy_pipelines.grid.replay.anchor import ensure_anchor
    from flexergy_pipelines.grid.samples import sample_sites
    from flexergy_pipelines.store.sites import list_sites

    known = set(list_sites(db))
    missing = [site for site in sample_sites() if site.id not in known]
    if not missing:
        return
    ensure_anchor(settings)  # fixes the day that all sites are re-dated to
    with (
        progress.step(f"sample sites {', '.join(site.id for site in missing)} with their history"),
        ExitStack() as stack,
    ):
        workers = {
            site.id: stack.enter_context(
                subprocess.Popen(
                    services.flexergy("sample", "import", "--site", site.id, "--json"),
                    env={**os.environ, **env},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for site in missing
        }
        failed = {site_id: answer for site_id, worker in workers.items() if (answer := _failure(worker))}
    if failed:
        raise CannotStartError("; ".join(f"{site_id}: {answer}" for site_id, answer in failed.items()))


def _failure(worker: subprocess.Popen[str]) -> str:
    _, said = worker.communicate()
    return (said.strip().splitlines() or [f"ended with code {worker.returncode}"])[-1] if worker.returncode else ""

"""The anchor of an installation: the instant that the sample year was re-dated to, kept so that it never moves."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from flexergy_pipelines.grid.replay.rule import ReplayRule
from flexergy_pipelines.grid.replay.site import ReplayedSite
from flexergy_pipelines.grid.site import Site
from flexergy_pipelines.settings import Settings


def ensure_anchor(settings: Settings, now: datetime | None = None) -> datetime:
    """The installation's anchor; the first call writes `now` as the anchor to `<home>/replay.json`.

    Raises
    ------
    ValueError
        The file exists but holds no anchor.
    """
    path = settings.home / "replay.json"
    if not path.exists():
        settings.home.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"replay.{os.getpid()}.tmp")
        scratch.write_text(json.dumps({"anchor": (now or datetime.now(UTC)).astimezone(UTC).isoformat()}))
        try:
            os.link(scratch, path)  # fails when another process was first: then its anchor holds
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    try:
        anchor = datetime.fromisoformat(json.loads(path.read_text())["anchor"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{path}: holds no anchor such as {{"anchor": "2026-01-31T12:00:00+00:00"}}') from None
    if anchor.tzinfo is None:
        raise ValueError(f"{path}: anchor {anchor.isoformat()} has no time zone")
    return anchor.astimezone(UTC)


def load_replay(settings: Settings, site: Site) -> ReplayedSite:
    """The sample site re-dated to this installation's anchor."""
    return ReplayedSite(site, ReplayRule.for_now(ensure_anchor(settings), site.zone))

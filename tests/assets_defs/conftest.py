"""A Dagster instance and a store whose sites the assets work on."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from assets_defs import resources
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.sites import save_site

SITES = ("hybrid-park", "microgrid")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def installation(db: TenantStore, store_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The environment of an installation with the two sample sites and no history."""
    assert store_settings.database_url is not None
    for site_id in SITES:
        save_site(db, sample_site(site_id))
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store_settings.database_url)
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    monkeypatch.delenv("FLEXERGY_WEATHER_URL", raising=False)
    monkeypatch.delenv("FLEXERGY_MARKET_URL", raising=False)
    resources.open_once.cache_clear()
    yield store_settings
    resources.open_once(store_settings).close()
    resources.open_once.cache_clear()

"""A site to ingest for."""

from __future__ import annotations

import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.sites import save_site


@pytest.fixture
def site(db: TenantStore) -> Site:
    """The sample microgrid, in the store without any history."""
    site = sample_site("microgrid")
    save_site(db, site)
    return site

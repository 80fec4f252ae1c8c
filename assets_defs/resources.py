"""What assets are handed: the store of the installation's tenant, and the model registry."""

import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from flexergy_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.registry import ModelRegistry
    from flexergy_pipelines.store import Store, TenantStore


class StoreResource(dg.ConfigurableResource):
    """The store as the tenant of this installation sees it, and the time of the run."""

    tenant: str = Field(default="", description="Tenant; empty means FLEXERGY_TENANT.")
    as_of: str = Field(default="", description="Pretend it is this time (ISO 8601 with offset); empty means now.")

    def db(self) -> "TenantStore":
        """The tenant's store; one connection pool a process."""
        settings = load_settings()
        return open_once(settings).tenant(self.tenant or settings.tenant)

    def now(self) -> datetime:
        """Time of the run, aware, UTC."""
        if not self.as_of:
            return datetime.now(UTC)
        moment = datetime.fromisoformat(self.as_of)
        if moment.tzinfo is None:
            raise ValueError(f"as_of {self.as_of!r} has no offset; give for example 2026-03-01T00:00:00+01:00")
        return moment.astimezone(UTC)

    def settings(self) -> Settings:
        return load_settings()


class ModelsResource(dg.ConfigurableResource):
    """The registry of forecast models in MLflow."""

    tracking_uri: str = Field(default="", description="MLflow; empty means MLFLOW_TRACKING_URI, else the store's own.")

    def registry(self) -> "ModelRegistry":
        settings = load_settings()
        return registry_once(self.tracking_uri or tracking_uri(settings), settings.artifacts_dir)


def tracking_uri(settings: Settings) -> str:
    """Where MLflow keeps experiments: the server named by MLFLOW_TRACKING_URI, else the database directly."""
    return os.environ.get("MLFLOW_TRACKING_URI") or open_once(settings).url("mlflow", "psycopg2")


@lru_cache(maxsize=4)
def registry_once(uri: str, artifacts_dir: Path) -> "ModelRegistry":
    """The registry at this address; it keeps the models it has loaded, which take seconds to load."""
    from flexergy_pipelines.forecasting.registry import ModelRegistry

    return ModelRegistry(uri, artifacts_dir)


@lru_cache(maxsize=4)
def open_once(settings: Settings) -> "Store":
    """The store of these settings, opened at the first use in a process."""
    from flexergy_pipelines.store import open_store

    return open_store(settings)

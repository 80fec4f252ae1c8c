"""The store: PostgreSQL engine, tables and migrations, time-series read and write, tenancy."""

from flexergy_pipelines.store.embedded import EmbeddedServer, start_embedded
from flexergy_pipelines.store.engine import Store, Tenant, TenantStore, open_store
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError, StoreError, StoreUnavailableError
from flexergy_pipelines.store.status import database_status

__all__ = [
    "EmbeddedServer",
    "InvalidDataError",
    "NotFoundError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "Tenant",
    "TenantStore",
    "database_status",
    "open_store",
    "start_embedded",
]

"""What time it is for the store."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


def read_clock(db: TenantStore) -> datetime:
    """Present time of the database server, aware."""
    with db.begin() as connection:
        return connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()

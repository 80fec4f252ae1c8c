"""Schema versions: runs the packaged Alembic migrations without any file of configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flexergy_pipelines.store.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

_LOCK = 0x6D696772


def migrate(engine: Engine) -> str:
    """Bring the schema to the newest version in one transaction a step; two migrators wait for each other."""
    from alembic import command

    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.commit()
        try:
            command.upgrade(_configuration(connection), "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (_LOCK,))
            connection.commit()
    return newest_version()


def newest_version() -> str:
    """The schema version that this program was written for."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_configuration()).get_current_head()
    if head is None:
        raise StoreError("the installed package holds no migrations; install it again")
    return head


def current_version(engine: Engine) -> str | None:
    """The schema version that the database has, None when it has none."""
    with engine.begin() as connection:
        if connection.exec_driver_sql("SELECT to_regclass('public.alembic_version')").scalar_one() is None:
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()


def _configuration(connection: Connection | None = None) -> Config:
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration

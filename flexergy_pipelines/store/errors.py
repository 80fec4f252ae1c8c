"""What can go wrong with the store, as errors whose text a user can act on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StoreError(Exception):
    """The store cannot do what was asked; the message names the thing, the value and what to do."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached now (down, restarting, too many connections); worth trying again later."""


class InvalidDataError(StoreError, ValueError):
    """Data handed to the store were refused before anything was written."""


class NotFoundError(StoreError, LookupError):
    """A named tenant, site, point, plan or row does not exist for this tenant."""


def disk_message(error: OSError, path: Path) -> str:
    """One line for an operating-system error met under `path`."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"no space left on the disk of {path}: free some space, then start again"
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return f"cannot write to {path} ({error.strerror}): make it writable or set FLEXERGY_HOME to another folder"
    return f"{path}: {error.strerror or error}"


_UNAVAILABLE_PREFIXES = ("08", "57P")
_UNAVAILABLE_CODES = {"53300", "25006"}


@contextmanager
def clear_errors(where: str) -> Iterator[None]:
    """Turn driver errors into `StoreError` with one clear line; others pass through unchanged."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailableError(f"{where}: all connections of this process are in use") from error
    except DBAPIError as error:
        raise explain(error.orig or error, where, disconnected=error.connection_invalidated) from error
    except Exception as error:
        import psycopg

        if isinstance(error, psycopg.Error):
            raise explain(error, where) from error
        raise


def explain(error: BaseException, where: str, *, disconnected: bool = False) -> Exception:
    """The error that a user should see for a driver error; the same error where nothing better is known."""
    import psycopg

    if not isinstance(error, psycopg.Error):
        return error if isinstance(error, Exception) else StoreError(str(error))
    code = error.sqlstate or ""
    text = " ".join(str(error).split())
    lost = isinstance(error, psycopg.OperationalError) and not code
    for matches, kind, advice in (
        (
            code == "53100" or "No space left on device" in text,
            StoreError,
            "the database's disk is full; free some space (nothing of this was written)",
        ),
        (
            code in {"28P01", "28000"} or "password authentication failed" in text or "no password supplied" in text,
            StoreError,
            "the database refused the user or password; check FLEXERGY_DATABASE_URL",
        ),
        (
            code == "3D000" or (lost and "database" in text and "does not exist" in text),
            StoreError,
            f"{text}; create it or run `flexergy db migrate` with an administrator's URL",
        ),
        (
            code == "42P01",
            StoreError,
            "the database has no tables yet or is older than this program; run `flexergy db migrate`",
        ),
        (code == "42501", StoreError, f"the database forbids it ({text})"),
        (
            isinstance(error, psycopg.DataError),
            InvalidDataError,
            f"a value cannot be stored ({text})",
        ),
        (code == "57014", StoreError, "the statement took longer than allowed and was cancelled"),
        (code == "55P03", StoreUnavailableError, "another writer held the rows for too long; try again"),
        (
            disconnected or lost or code.startswith(_UNAVAILABLE_PREFIXES) or code in _UNAVAILABLE_CODES,
            StoreUnavailableError,
            f"the database cannot be reached ({text})",
        ),
    ):
        if matches:
            return kind(f"{where}: {advice}")
    return error

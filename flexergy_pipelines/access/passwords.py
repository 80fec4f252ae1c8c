"""Passwords: argon2id with the parameters that OWASP's password storage cheat sheet gives for a server."""

from __future__ import annotations

import secrets
import string
from functools import cache
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.store import InvalidDataError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST: Final = 8
LONGEST: Final = 256
_MEMORY_KIB: Final = 19 * 1024
# Each check takes 19 MiB and a core for a while: more at once would only starve the rest of the process.
_AT_ONCE = BoundedSemaphore(2)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=_MEMORY_KIB, parallelism=1)


@cache
def _nobodys_hash() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def hash_password(password: str, name: str) -> str:
    """Hash a new password.

    Raises
    ------
    InvalidDataError
        Shorter than 8 characters, longer than 256, or the user's own name. The message never holds the password.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidDataError(f"password of {name}: has {len(password)} characters; give {SHORTEST} to {LONGEST}")
    if password.casefold() == name.casefold():
        raise InvalidDataError(f"password of {name}: is the user's name; give another")
    with _AT_ONCE:
        return _hasher().hash(password)


def password_fits(stored_hash: str | None, password: str) -> bool:
    """Whether a password fits a stored hash; takes as long for a user that does not exist (None)."""
    from argon2.exceptions import Argon2Error, InvalidHashError

    if len(password) > LONGEST:
        return False
    with _AT_ONCE:
        try:
            fits = _hasher().verify(stored_hash or _nobodys_hash(), password)
        except (Argon2Error, InvalidHashError):
            return False
    return fits and stored_hash is not None


def generate_password() -> str:
    """A password of 20 letters and digits (119 bits), for a first login."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(20))

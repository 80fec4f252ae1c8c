"""What a search finds, and where it searches."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_PLACES = 65_536


class SearchError(ValueError):
    """Where or how to search does not make sense; one clear line."""


@dataclass(frozen=True, slots=True)
class Found:
    """A device that was found.

    Attributes
    ----------
    address : str
        ``host:port unit n``.
    identity : mapping
        What it says of itself.
    template : str or None
        Template that fits what it offers; None when none does.
    """

    protocol: str
    address: str
    identity: Mapping[str, Any]
    template: str | None


def hosts_of(text: str) -> list[str]:
    """Hosts of ``10.0.0.5``, ``10.0.0.0/28``, ``10.0.0.5-10.0.0.9`` or a name; several with commas.

    Raises
    ------
    SearchError
        It is none of these, or more than 65536 hosts.
    """
    found: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found += _hosts_of(part)
        if len(found) > MOST_PLACES:
            raise SearchError(f"{text}: more than {MOST_PLACES} hosts")
    if not found:
        raise SearchError(f"hosts '{text}': give addresses such as 10.0.0.5, 10.0.0.0/28 or 10.0.0.5-10.0.0.9")
    return found


def _hosts_of(part: str) -> Iterator[str]:
    first, dash, last = part.partition("-")
    try:
        if "/" in part:
            network = ipaddress.ip_network(part, strict=False)
            if network.num_addresses > MOST_PLACES:
                raise SearchError(f"{part}: more than {MOST_PLACES} hosts")
            yield from (str(host) for host in (network.hosts() if network.num_addresses > 1 else network))
            return
        if dash and first[:1].isdigit():
            low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
            if int(high) < int(low) or int(high) - int(low) >= MOST_PLACES:
                raise SearchError(f"{part}: the last address must follow the first by less than {MOST_PLACES}")
            yield from (str(ipaddress.ip_address(number)) for number in range(int(low), int(high) + 1))
            return
    except SearchError:
        raise
    except ValueError:
        raise SearchError(
            f"hosts '{part}': give addresses such as 10.0.0.5, 10.0.0.0/28 or 10.0.0.5-10.0.0.9"
        ) from None
    yield part


def numbers_of(text: str, low: int, high: int, what: str) -> list[int]:
    """Numbers of ``1,3-5``.

    Raises
    ------
    SearchError
        It is no such list, or a number is outside `low` .. `high`.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise SearchError(f"{what} '{text}': give numbers such as 1,3-5")
        found += range(int(first), int(last or first) + 1)
    outside = [number for number in found if not low <= number <= high]
    if outside or not found:
        raise SearchError(f"{what} '{text}': allowed are {low} to {high}")
    return found

"""The two ways in which DLMS/COSEM wraps an enciphered message, one turned into the other.

The library enciphers with *general* protection: one tag for all services, with the sender's system title. Meters that
do not agree to it want a tag for each service and no title. What is enciphered is the same.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book), 9.2.7.2 (service-specific) and 9.2.7.3 (general).
"""

from __future__ import annotations

GENERAL = 0xDB
_REQUESTS = {0xC0: 0xC8, 0xC1: 0xC9, 0xC3: 0xCB}
"""Tag of a plain get, set and action request, and of the enciphered one."""
_ANSWERS = frozenset({0xCC, 0xCD, 0xCF})


def to_service_specific(apdu: bytes, plain: bytes) -> bytes:
    """A request as general protection wraps it, with the tag of its service instead.

    Parameters
    ----------
    apdu : bytes
        The enciphered request.
    plain : bytes
        The same before it was enciphered; a request of another kind stays as it is.
    """
    if apdu[0] != GENERAL or plain[0] not in _REQUESTS:
        return apdu
    title_ends = 2 + apdu[1]
    return bytes([_REQUESTS[plain[0]]]) + apdu[title_ends:]


def is_enciphered(apdu: bytes) -> bool:
    """Whether an answer is enciphered, in either way."""
    return apdu[0] == GENERAL or apdu[0] in _ANSWERS


def to_general(apdu: bytes, system_title: bytes) -> bytes:
    """An answer enciphered under its service's tag, as if under general protection; any other stays as it is."""
    if not apdu or apdu[0] not in _ANSWERS:
        return apdu
    return bytes([GENERAL, len(system_title)]) + system_title + apdu[1:]

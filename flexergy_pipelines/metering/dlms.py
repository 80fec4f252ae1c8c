"""A DLMS/COSEM client over TCP: associations without and with keys, and the values of objects in our units.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book): classes 1, 3, 4, 5, units 4.3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any, Final

from flexergy_pipelines.metering.dlms_link import MeterError, MeterLink, MeterRefusal, Selection
from flexergy_pipelines.metering.keys import Credentials

__all__ = ["DlmsClient", "Measured", "MeterError", "MeterRefusal"]

DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, PROFILE, CLOCK, ASSOCIATION = 1, 3, 4, 5, 7, 8, 15
CLOCK_OBIS: Final = "0.0.1.0.0.255"
PROFILE_OBIS: Final = "1.0.99.1.0.255"
ASSOCIATION_OBIS: Final = "0.0.40.0.0.255"
PUBLIC_CLIENT: Final = 16
AHEAD_OF_OTHERS: Final = 100
"""Messages that somebody else may send by the same key while an association is opened."""
UNITS: Final = {
    27: ("kW", 1e-3), 28: ("kVA", 1e-3), 29: ("kvar", 1e-3), 30: ("kWh", 1e-3), 31: ("kVAh", 1e-3),
    32: ("kvarh", 1e-3), 33: ("A", 1.0), 35: ("V", 1.0), 44: ("Hz", 1.0),
}  # fmt: skip
"""Units by code: the platform's unit, and the factor that leads to it."""
_VALUE: Final = 2
_SCALER: Final = {REGISTER: 3, EXTENDED_REGISTER: 3, DEMAND_REGISTER: 4}
"""Attribute that holds scaler and unit, by class."""
_NO_UNIT: Final = 255


@dataclass(frozen=True, slots=True)
class Measured:
    """A value in the platform's unit of its kind (kW, kvar, kWh, V, ...)."""

    value: float
    unit: str


class DlmsClient:
    """An association with a meter; use it as ``async with DlmsClient(...) as meter``.

    Parameters
    ----------
    host, port : str, int
        Where the meter is.
    credentials : Credentials
        How the client shows who it is.
    timeout_s : float
        Longest wait for connecting and for each answer [s].
    zone : tzinfo
        The meter's time zone, for times that it tells without their deviation from UTC.
    """

    def __init__(
        self,
        host: str,
        port: int,
        credentials: Credentials | None = None,
        *,
        timeout_s: float = 5.0,
        zone: tzinfo = UTC,
    ) -> None:
        self.host = host
        self.port = port
        self.credentials = credentials or Credentials()
        self.timeout_s = timeout_s
        self.zone = zone
        self._link: MeterLink | None = None
        self._scales: dict[tuple[int, str], tuple[float, str]] = {}

    async def __aenter__(self) -> DlmsClient:
        counter = await self._next_counter() if self.credentials.ciphered else 0
        try:
            self._link = await self._opened(counter)
        except MeterError:
            if not self.credentials.ciphered:
                raise
            # Only one who has the key moves the counter: somebody else talks to the meter by it meanwhile.
            moved = await self._next_counter()
            if moved <= counter:
                raise
            self._link = await self._opened(moved + AHEAD_OF_OTHERS)
        return self

    async def _opened(self, counter: int) -> MeterLink:
        link = self._linked(self.credentials, counter)
        await link.open()
        return link

    async def __aexit__(self, *_error: object) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None

    def _linked(self, credentials: Credentials, counter: int) -> MeterLink:
        return MeterLink(self.host, self.port, credentials, counter, self.timeout_s)

    async def _next_counter(self) -> int:
        """Anybody may read the last counter that the meter took; the next one must be larger."""
        public = self._linked(Credentials(client_address=PUBLIC_CLIENT, tls=self.credentials.tls), 0)
        name = self.credentials.counter_object
        async with public.opened():
            last = await public.get(DATA, name, _VALUE)
        if isinstance(last, bool) or not isinstance(last, int) or last < 0:
            raise MeterError(f"{self.host}:{self.port}: {name} holds no invocation counter")
        return last + 1

    @property
    def link(self) -> MeterLink:
        """The open association.

        Raises
        ------
        MeterError
            None is open.
        """
        if self._link is None:
            raise MeterError(f"{self.host}:{self.port}: no association is open")
        return self._link

    async def get(self, interface: int, obis: str, attribute: int = _VALUE, selection: Selection | None = None) -> Any:
        """An attribute as the protocol's plain data (numbers, bytes, lists).

        Raises
        ------
        MeterError
            No answer in time, a refusal, or an answer that makes no sense.
        """
        return await self.link.get(interface, obis, attribute, selection)

    async def set(self, interface: int, obis: str, attribute: int, data: bytes) -> None:
        """Write an attribute.

        Parameters
        ----------
        data : bytes
            The value in the protocol's encoding (A-XDR, with its type).

        Raises
        ------
        MeterRefusal
            The meter does not take it; its reason is told.
        MeterError
            No answer in time, or one that makes no sense.
        """
        await self.link.set(interface, obis, attribute, data)

    async def read(self, obis: str, interface: int = REGISTER) -> Measured:
        """Present value of a register (class 3, 4 or 5) in the platform's unit.

        Raises
        ------
        MeterError
            As of `get`; also when the object has no value now.
        """
        factor, unit = await self.scale(interface, obis)
        found = measured(await self.get(interface, obis), factor, unit)
        if found is None:
            raise MeterRefusal(f"{obis}: holds no number")
        return found

    async def read_many(self, obis: Sequence[str]) -> dict[str, Measured | None]:
        """Several registers within one association; None for an object the meter does not have or has no value of.

        Raises
        ------
        MeterError
            When the meter does not answer.
        """
        found: dict[str, Measured | None] = {}
        for name in obis:
            try:
                found[name] = await self.read(name)
            except MeterRefusal:
                found[name] = None
        return found

    async def scale(self, interface: int, obis: str) -> tuple[float, str]:
        """Factor and unit of a register; an increment that is only a column of a profile counts as Wh or varh.

        Raises
        ------
        MeterError
            As of `get`.
        """
        key = (interface, obis)
        if key not in self._scales:
            try:
                told = await self.get(interface, obis, _SCALER.get(interface, 3))
            except MeterRefusal:
                reactive = obis.split(".")[2] in {"3", "4", "5", "6", "7", "8"}
                told = [0, 32 if reactive else 30]
            match told:
                case [int() as scaler, int() as code] if abs(scaler) <= 128:
                    unit, factor = UNITS.get(code, ("" if code == _NO_UNIT else f"unit {code}", 1.0))
                case _:
                    raise MeterRefusal(f"{obis}: {told!r} is no scaler and unit")
            self._scales[key] = (factor * 10.0**scaler, unit)
        return self._scales[key]


def measured(raw: Any, factor: float, unit: str) -> Measured | None:
    """A number times a factor; None for what is no finite number."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        return None
    return Measured(raw * factor, unit)

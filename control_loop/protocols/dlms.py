"""DLMS/COSEM meters in the loop: instantaneous values and counters, over one association that stays open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import import_module

from control_loop.image import PointKey
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError, LinkHealth
from flexergy_pipelines.grid.templates import DeviceTemplate
from flexergy_pipelines.metering.dlms import DlmsClient, MeterError
from flexergy_pipelines.metering.keys import Credentials

UNITS = {"kw": "kW", "kvar": "kvar", "kwh": "kWh", "kvarh": "kvarh", "v": "V", "a": "A", "hz": "Hz"}
"""Unit of a quantity by the end of its name."""
NO_CREDENTIALS = "no register can be read without a password or key; give it one in meter_keys.yaml of the home folder"


class DlmsDriver:
    """Link to one meter; see `Driver`.

    Parameters
    ----------
    device : str
        Identity of the meter in its site.
    address : callable
        Gives host and port at each connect.
    template : DeviceTemplate
        Its `obis` name the registers of each quantity.
    assets : sequence of str
        The asset that it measures.
    quantities : mapping
        Quantities wanted of it.
    credentials : callable
        Gives passwords or keys at each connect, so that changed ones are taken up.
    timeout_s : float
        Longest wait for one answer [s].

    Raises
    ------
    ValueError
        The template names no registers, or there are several assets.
    """

    def __init__(
        self,
        device: str,
        address: Callable[[], tuple[str, int]],
        template: DeviceTemplate,
        assets: Sequence[str],
        quantities: Mapping[str, frozenset[str]],
        *,
        credentials: Callable[[], Credentials],
        timeout_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        if len(assets) != 1:
            raise ValueError(f"{device}: a meter measures one asset, not {len(assets)}")
        wanted = {q: registers for q, registers in template.obis.items() if q in quantities[assets[0]]}
        if not wanted:
            raise ValueError(f"{device}: template {template.name} names no DLMS registers (obis) of {assets[0]}")
        self.device = device
        self.health = LinkHealth()
        self._asset = assets[0]
        self._wanted = wanted
        self._address = address
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff(1.0, 60.0)
        self._client: DlmsClient | None = None
        self._stranger = False
        # Here rather than in the first cycle, which would be late by it.
        import_module("dlms_cosem.connection")

    @property
    def assets(self) -> frozenset[str]:
        """The asset that the meter measures."""
        return frozenset({self._asset})

    async def read(self) -> Mapping[PointKey, float | None]:
        """Present values; a register that the meter lacks, or that shows another unit, is missing."""
        client = await self._open()
        began = time.monotonic()
        sent, received = client.link.bytes_sent, client.link.bytes_received
        names = list(dict.fromkeys(name for registers in self._wanted.values() for name in registers))
        try:
            found = await client.read_many(names)
        except MeterError as error:
            raise await self._lost(error) from None
        if self._stranger and not any(found.values()):
            raise await self._lost(MeterError(NO_CREDENTIALS))
        self.health.answered(time.monotonic() - began)
        self.health.bytes_sent += client.link.bytes_sent - sent
        self.health.bytes_received += client.link.bytes_received - received
        self._backoff.succeeded()
        values: dict[PointKey, float | None] = {}
        for quantity, registers in self._wanted.items():
            unit = UNITS.get(quantity.rpartition("_")[2])
            parts = [found[name] for name in registers]
            numbers = [part.value if part is not None and part.unit == unit else None for part in parts]
            values[self._asset, quantity] = _difference(numbers)
        if self.health.tracing:
            self.health.note(f"registers {', '.join(f'{n} = {v.value:g} {v.unit}' for n, v in found.items() if v)}")
        return values

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Meters take no orders."""
        raise DriverError(
            f"{self.device}: {quantity} of {asset_id} cannot be set to {value:g}; a meter takes no orders"
        )

    def takes_schedule(self, asset_id: str) -> bool:
        """Meters keep no schedule."""
        del asset_id
        return False

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """See `takes_schedule`."""
        raise DriverError(f"{self.device}: keeps no schedule for {asset_id} ({len(values)} values from {start})")

    async def close(self) -> None:
        """End the association."""
        client, self._client = self._client, None
        self.health.connected = False
        if client is not None:
            await client.__aexit__(None, None, None)

    async def _open(self) -> DlmsClient:
        if self._client is not None:
            return self._client
        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DriverError(f"{self.device}: down, next try in {self._backoff.wait_s(now):.1f} s")
        host, port = self._address()
        try:
            credentials = self._credentials()
            self._stranger = credentials.password is None and not credentials.ciphered
            client = DlmsClient(host, port, credentials, timeout_s=self._timeout_s)
            self._client = await client.__aenter__()
        except (MeterError, ValueError) as error:
            raise await self._lost(error) from None
        self.health.connected = True
        self.health.reconnects += 1
        return self._client

    async def _lost(self, error: Exception) -> DriverError:
        self._backoff.failed(time.monotonic())
        self.health.failed(f"{self.device}: {error}")
        await self.close()
        return DriverError(self.health.last_error)


def _difference(parts: Sequence[float | None]) -> float | None:
    """The first part less the others (imported less exported power); None when one is missing."""
    known = [part for part in parts if part is not None]
    return None if len(known) < len(parts) else known[0] - sum(known[1:])

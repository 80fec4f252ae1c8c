"""What a SunSpec device shows besides its values: the chain of models, who made it, ratings and powers of ten."""

from __future__ import annotations

from collections.abc import Sequence

from flexergy_pipelines.grid import Asset, DeviceTemplate
from flexergy_pipelines.grid.ratings import rated_power_kw
from flexergy_pipelines.grid.templates.sunspec import (
    BASES,
    END,
    MARKER,
    NO_FACTOR,
    ModelPlace,
    factor_names,
    locate,
    model_registers,
    reference_chain,
)

IDENTITY = {"1.Mn": "Flexergy", "1.Md": "Simulated plant", "1.Vr": "1", "1.SN": ""}
_ABSENT = {"int16": [0x8000], "uint16": [0xFFFF], "enum16": [0xFFFF], "acc16": [0], "sunssf": [NO_FACTOR & 0xFFFF],
           "int32": [0x8000, 0], "uint32": [0xFFFF, 0xFFFF], "enum32": [0xFFFF, 0xFFFF], "acc32": [0, 0],
           "float32": [0x7FC0, 0], "uint64": [0xFFFF] * 4, "int64": [0x8000, 0, 0, 0], "acc64": [0] * 4,
           "bitfield16": [0xFFFF], "bitfield32": [0xFFFF, 0xFFFF],
           "bitfield64": [0xFFFF] * 4}  # fmt: skip


def sunspec_registers(template: DeviceTemplate, assets: Sequence[Asset]) -> dict[int, int]:
    """Registers of the reference device by address, without the values of its points; none without SunSpec."""
    spec = template.sunspec
    if spec is None:
        return {}
    chain = reference_chain(spec.layout)
    registers = dict(enumerate(MARKER, start=BASES[0]))
    for place in chain:
        registers |= _empty(place)
        registers |= {place.address: place.model, place.address + 1: place.length}
    last = chain[-1]
    registers |= {last.address + 2 + last.length: END, last.address + 3 + last.length: 0}
    for name in factor_names(spec):
        _put(registers, chain, name, [spec.factors.get(name, 0) & 0xFFFF])
    rated_w = 1000.0 * sum(map(rated_power_kw, assets))
    for name in spec.rating:
        found = locate(name, chain)
        if found is not None:
            factor = spec.factors.get(f"{name.partition('.')[0]}.{found[1].factor}", 0)
            _put(registers, chain, name, [min(0xFFFE, round(rated_w / 10.0**factor))])
    if template.setpoint_ttl_address is not None:
        registers[template.setpoint_ttl_address - 1] = 0  # upper half of the revert time
    serial = "-".join(asset.id for asset in assets)
    for name, text in (IDENTITY | {"1.SN": serial}).items():
        found = locate(name, chain)
        if found is not None:
            octets = text.encode()[: 2 * found[1].size].ljust(2 * found[1].size, b"\0")
            _put(registers, chain, name, [int.from_bytes(octets[i : i + 2]) for i in range(0, len(octets), 2)])
    return registers


def _empty(place: ModelPlace) -> dict[int, int]:
    """A model of which nothing is implemented."""
    registers = dict.fromkeys(range(place.address, place.address + 2 + place.length), 0)
    for register in model_registers(place.model).values():
        start = place.address + register.offset
        registers |= dict(enumerate(_ABSENT.get(register.type, [0] * register.size), start=start))
    return registers


def _put(registers: dict[int, int], chain: Sequence[ModelPlace], name: str, values: Sequence[int]) -> None:
    found = locate(name, chain)
    if found is not None:
        registers |= dict(enumerate(values, start=found[0]))

"""The network inside a site: buses, lines, transformers and switches that connect its assets to the PCC."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Many, Model, Name, NonNegative, Positive, Slug


class Bus(Model):
    id: Slug
    name: Name | None = None
    nominal_voltage_v: Positive = 400.0
    voltage_min_pu: Positive = 0.9
    voltage_max_pu: Positive = 1.1

    @model_validator(mode="after")
    def _band(self) -> Bus:
        if self.voltage_min_pu >= self.voltage_max_pu:
            raise ValueError(f"voltage_min_pu {self.voltage_min_pu} is not below voltage_max_pu {self.voltage_max_pu}")
        return self


class Line(Model):
    """Cable or overhead line; resistances and reactances per km."""

    id: Slug
    name: Name | None = None
    from_bus: Slug
    to_bus: Slug
    length_km: Positive
    r_ohm_per_km: NonNegative
    x_ohm_per_km: NonNegative
    c_nf_per_km: NonNegative = 0.0
    max_current_a: Positive
    in_service: bool = True


class Transformer(Model):
    id: Slug
    name: Name | None = None
    hv_bus: Slug
    lv_bus: Slug
    rated_kva: Positive
    short_circuit_voltage_percent: Positive = 6.0
    copper_loss_kw: NonNegative = 0.0
    iron_loss_kw: NonNegative = 0.0
    tap_position: int = 0
    tap_step_percent: NonNegative = 2.5
    in_service: bool = True


class Switch(Model):
    """Switch between a bus and a line, a transformer or another bus."""

    id: Slug
    bus: Slug
    element: Slug
    kind: Literal["circuit_breaker", "disconnector", "load_break_switch"] = "circuit_breaker"
    closed: bool = True


class Network(Model):
    """Electrical network of the site; `pcc_bus` is where the public grid begins."""

    buses: Many[Bus] = Field(min_length=1)
    lines: Many[Line] = ()
    transformers: Many[Transformer] = ()
    switches: Many[Switch] = ()
    pcc_bus: Slug

    @model_validator(mode="after")
    def _references(self) -> Network:
        buses = {bus.id for bus in self.buses}
        problems: list[str] = []

        def known(owner: str, bus: str) -> None:
            if bus not in buses:
                problems.append(f"{owner} names unknown bus {bus}")

        known("pcc_bus", self.pcc_bus)
        for line in self.lines:
            known(f"line {line.id}", line.from_bus)
            known(f"line {line.id}", line.to_bus)
            if line.from_bus == line.to_bus:
                problems.append(f"line {line.id} begins and ends at bus {line.from_bus}")
        for transformer in self.transformers:
            known(f"transformer {transformer.id}", transformer.hv_bus)
            known(f"transformer {transformer.id}", transformer.lv_bus)
            if transformer.hv_bus == transformer.lv_bus:
                problems.append(f"transformer {transformer.id} has both sides at bus {transformer.hv_bus}")
        elements = buses | {line.id for line in self.lines} | {t.id for t in self.transformers}
        for switch in self.switches:
            known(f"switch {switch.id}", switch.bus)
            if switch.element not in elements:
                problems.append(f"switch {switch.id} names unknown element {switch.element}")
        if problems:
            raise ValueError("; ".join(problems))
        unreached = buses - self._reachable()
        if unreached:
            raise ValueError(f"bus {sorted(unreached)[0]} is not connected to pcc_bus {self.pcc_bus}")
        return self

    def _reachable(self) -> set[str]:
        """Buses that lines and transformers connect to the PCC, whatever the position of the switches."""
        edges = [(line.from_bus, line.to_bus) for line in self.lines]
        edges += [(t.hv_bus, t.lv_bus) for t in self.transformers]
        edges += [(s.bus, s.element) for s in self.switches]
        seen, front = {self.pcc_bus}, {self.pcc_bus}
        while front:
            front = {b for a, b in edges if a in front} | {a for a, b in edges if b in front}
            front -= seen
            seen |= front
        return seen & {bus.id for bus in self.buses}

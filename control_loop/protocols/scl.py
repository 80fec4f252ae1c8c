"""Points of IEC 61850 devices from their SCL files (ICD, IID, CID, SCD), as a site's connection names them.

References
----------
IEC 61850-6 (SCL), 61850-7-3 (common data classes), 61850-7-4 and 7-420 (names of data objects).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

NAMESPACE = "{http://www.iec.ch/61850/2003/SCL}"
LARGEST_FILE = 100_000_000
SHOWN_CLASSES = {
    "MV": "analogue", "CMV": "analogue", "SPS": "single", "DPS": "double", "INS": "integer", "ENS": "integer",
    "APC": "analogue", "SPC": "single", "DPC": "double", "INC": "integer", "ENC": "integer", "BSC": "integer",
}  # fmt: skip
"""Common data classes that are read, and the kind of value in them."""
CONTROLLED = {"APC", "SPC", "DPC", "INC", "ENC", "BSC"}
QUANTITIES: dict[str, tuple[str, float]] = {
    "TotW": ("active_power_kw", 0.001), "TotVAr": ("reactive_power_kvar", 0.001), "Hz": ("frequency_hz", 1.0),
    "SocUsePct": ("soc", 0.01), "SocPct": ("soc", 0.01), "Soc": ("soc", 0.01), "SoC": ("soc", 0.01),
    "SohPct": ("soh", 0.01), "Soh": ("soh", 0.01), "SoH": ("soh", 0.01),
    "WSpt": ("active_power_setpoint_kw", 0.001), "OutWSet": ("active_power_setpoint_kw", 0.001),
    "VArSpt": ("reactive_power_setpoint_kvar", 0.001), "OutVarSet": ("reactive_power_setpoint_kvar", 0.001),
    "WLimSpt": ("active_power_limit_kw", 0.001), "WMaxSpt": ("active_power_limit_kw", 0.001),
}  # fmt: skip
"""Quantity by the name of the data object, and the scale from SI units; 61850 values are in W, var, Hz and percent."""


class SclError(ValueError):
    """A file that is no SCL, or does not hold what is asked for; one clear line."""


@dataclass(frozen=True, slots=True)
class SclPoint:
    """A data object that can be read or commanded.

    Attributes
    ----------
    reference : str
        ``LDevice/LN.DO``.
    cdc : str
        Common data class.
    kind : str
        See `ObjectPoint`.
    quantity : str or None
        What it most likely is; None when its name does not tell.
    """

    reference: str
    cdc: str
    kind: str
    quantity: str | None
    scale: float

    @property
    def commanded(self) -> bool:
        """Whether it takes orders."""
        return self.cdc in CONTROLLED


@dataclass(frozen=True, slots=True)
class SclIed:
    """One device of a file.

    Attributes
    ----------
    reports : tuple of str
        References of its report control blocks, buffered ones first.
    """

    name: str
    manufacturer: str
    points: tuple[SclPoint, ...]
    reports: tuple[str, ...]

    def connection(self, *, template: str, host: str, port: int) -> dict[str, Any]:
        """The connection of a controller or meter, with an object for each point whose quantity is known.

        Of several data objects for one quantity the first is taken.
        """
        objects: dict[str, dict[str, Any]] = {}
        for point in self.points:
            if point.quantity is None or point.quantity in objects:
                continue
            item: dict[str, Any] = {"quantity": point.quantity, "read": point.reference}
            if point.commanded:
                item["write"] = point.reference
            if point.kind != "analogue":
                item["kind"] = point.kind
            if point.scale != 1.0:
                item["scale"] = point.scale
            objects[point.quantity] = item
        made: dict[str, Any] = {"protocol": "iec61850", "host": host, "port": port, "template": template}
        if self.reports:
            made["report"] = self.reports[0]
        return made | {"objects": list(objects.values())}


def read_scl(path: Path) -> list[SclIed]:
    """Devices of an SCL file.

    Raises
    ------
    SclError
        The file cannot be read, is no SCL, or tries to pull in other files.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise SclError(f"{path}: is larger than {LARGEST_FILE // 1_000_000} MB")
        root = parse(path).getroot()
    except OSError as error:
        raise SclError(f"{path}: {error.strerror}") from None
    except ParseError as error:
        raise SclError(f"{path}: is no XML: {error}") from None
    except DefusedXmlException as error:
        raise SclError(f"{path}: holds what SCL needs not: {type(error).__name__}") from None
    if root is None or root.tag != f"{NAMESPACE}SCL":
        raise SclError(f"{path}: is no SCL file (its first element is {'' if root is None else root.tag})")
    types = _Types(root)
    found = [_ied(element, types) for element in root.findall(f"{NAMESPACE}IED")]
    if not found:
        raise SclError(f"{path}: names no IED")
    return found


class _Types:
    """Data objects of each logical node type, and the class of each data object type."""

    def __init__(self, root: Element) -> None:
        templates = root.find(f"{NAMESPACE}DataTypeTemplates")
        empty: list[Element] = []
        nodes = empty if templates is None else templates.findall(f"{NAMESPACE}LNodeType")
        objects = empty if templates is None else templates.findall(f"{NAMESPACE}DOType")
        self._objects = {node.get("id", ""): node.findall(f"{NAMESPACE}DO") for node in nodes}
        self._classes = {item.get("id", ""): item.get("cdc", "") for item in objects}

    def data_objects(self, node_type: str) -> Iterator[tuple[str, str]]:
        """Name and class of each data object."""
        for item in self._objects.get(node_type, []):
            yield item.get("name", ""), self._classes.get(item.get("type", ""), "")


def _ied(element: Element, types: _Types) -> SclIed:
    name = element.get("name", "")
    points: list[SclPoint] = []
    reports: list[tuple[bool, str]] = []
    for device in element.iter(f"{NAMESPACE}LDevice"):
        logical_device = device.get("ldName") or f"{name}{device.get('inst', '')}"
        for node in (*device.findall(f"{NAMESPACE}LN0"), *device.findall(f"{NAMESPACE}LN")):
            node_name = f"{node.get('prefix', '')}{node.get('lnClass', '')}{node.get('inst', '')}"
            points += _points(f"{logical_device}/{node_name}", types, node.get("lnType", ""))
            reports += _reports(f"{logical_device}/{node_name}", node)
    ordered = [reference for buffered, reference in sorted(reports, key=lambda item: not item[0])]
    return SclIed(name, element.get("manufacturer", ""), tuple(points), tuple(ordered))


def _points(node: str, types: _Types, node_type: str) -> Iterator[SclPoint]:
    for name, cdc in types.data_objects(node_type):
        if cdc in SHOWN_CLASSES:
            quantity, scale = QUANTITIES.get(name, (None, 1.0))
            yield SclPoint(f"{node}.{name}", cdc, SHOWN_CLASSES[cdc], quantity, scale)


def _reports(node: str, element: Element) -> Iterator[tuple[bool, str]]:
    for block in element.findall(f"{NAMESPACE}ReportControl"):
        buffered = block.get("buffered", "false") == "true"
        enabled = block.find(f"{NAMESPACE}RptEnabled")
        # Blocks are numbered as soon as they are indexed, which is the default.
        indexed = block.get("indexed", "true") == "true"
        number = "01" if indexed and enabled is not None else ""
        yield buffered, f"{node}.{'BR' if buffered else 'RP'}.{block.get('name', '')}{number}"

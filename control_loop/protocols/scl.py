"""Points of IEC 61850 devices from their SCL files (ICD, IID, CID, SCD), as a site's connection names them.

References
----------
IEC 61850-6 (SCL), 61850-7-3 (common data classes), 61850-7-4 and 7-420 (names of data objects).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

NAMESPACE = "{http://www.iec.ch/61850/2003/SCL}"
LARGEST_FILE = 100_000_000
DEEPEST = 5
"""Data objects within data objects; more is no model but a circle."""
SHOWN_CLASSES = {
    "MV": "analogue", "CMV": "analogue", "SPS": "single", "DPS": "double", "INS": "integer", "ENS": "integer",
    "ACT": "single", "BCR": "integer", "APC": "analogue", "SPC": "single", "DPC": "double", "INC": "integer",
    "ENC": "integer", "BSC": "integer", "ASG": "analogue", "SPG": "single", "ING": "integer", "ENG": "integer",
}  # fmt: skip
"""Common data classes that are read, and the kind of value in them."""
CONTROLLED = frozenset({"APC", "SPC", "DPC", "INC", "ENC", "BSC"})
SETTINGS = {"ASG": "setMag", "SPG": "setVal", "ING": "setVal", "ENG": "setVal"}
"""Set points, which are written, and the attribute that is."""
MULTIPLIERS = {
    "y": -24, "z": -21, "a": -18, "f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "c": -2, "d": -1, "": 0, "da": 1,
    "h": 2, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "Z": 21, "Y": 24,
}  # fmt: skip
"""Powers of ten of the unit (IEC 61850-7-3, SI multipliers)."""
QUANTITIES: dict[str, tuple[str, float]] = {
    "TotW": ("active_power_kw", 0.001), "TotVAr": ("reactive_power_kvar", 0.001), "Hz": ("frequency_hz", 1.0),
    "PhV.phsA": ("voltage_l1_v", 1.0), "PhV.phsB": ("voltage_l2_v", 1.0), "PhV.phsC": ("voltage_l3_v", 1.0),
    "SocUsePct": ("soc", 0.01), "SocPct": ("soc", 0.01), "Soc": ("soc", 0.01), "SoC": ("soc", 0.01),
    "SohPct": ("soh", 0.01), "Soh": ("soh", 0.01), "SoH": ("soh", 0.01),
    "WSpt": ("active_power_setpoint_kw", 0.001), "OutWSet": ("active_power_setpoint_kw", 0.001),
    "VArSpt": ("reactive_power_setpoint_kvar", 0.001), "OutVarSet": ("reactive_power_setpoint_kvar", 0.001),
    "WLimSpt": ("active_power_limit_kw", 0.001), "WMaxSpt": ("active_power_limit_kw", 0.001),
}  # fmt: skip
"""Quantity by the name of the data object, and the scale from SI units; 61850 values are in W, var, Hz and percent."""
ORDERS = ("_setpoint_kw", "_setpoint_kvar", "_limit_kw")


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
    commanded : bool
        Whether it takes orders: a control object that is not for its status only, or a set point.
    """

    reference: str
    cdc: str
    kind: str
    quantity: str | None
    scale: float
    commanded: bool = False


@dataclass(frozen=True, slots=True)
class SclIed:
    """One device of a file.

    Attributes
    ----------
    reports : tuple of str
        References of its report control blocks, buffered ones first.
    host : str or None
        IP address of the device, where the file has its communication.
    """

    name: str
    manufacturer: str
    points: tuple[SclPoint, ...]
    reports: tuple[str, ...]
    host: str | None = None

    def connection(self, *, template: str, host: str, port: int) -> dict[str, Any]:
        """The connection of a controller or meter, with an object for each point whose quantity is known.

        Raises
        ------
        SclError
            No point's quantity is known.
        """
        items = object_points(
            (p.quantity, p.reference, p.kind, p.scale, p.commanded) for p in self.points if p.quantity is not None
        )
        if not items:
            raise SclError(f"{self.name}: no data object's name tells its quantity; name them by hand (see --all)")
        made: dict[str, Any] = {"protocol": "iec61850", "host": host, "port": port, "template": template}
        if self.reports:
            made["report"] = self.reports[0]
        return made | {"objects": items}


def object_points(points: Iterable[tuple[str, str, str, float, bool]]) -> list[dict[str, Any]]:
    """Points as a site's connection has them, of quantity, reference, kind, scale and whether they take orders.

    Of several data objects for one quantity the first is taken, for an order the first that takes it.
    """
    chosen: dict[str, tuple[str, str, float, bool]] = {}
    for quantity, reference, kind, scale, commanded in points:
        better = quantity.endswith(ORDERS) and commanded and not chosen.get(quantity, ("", "", 0.0, True))[3]
        if quantity not in chosen or better:
            chosen[quantity] = reference, kind, scale, commanded
    items: list[dict[str, Any]] = []
    for quantity, (reference, kind, scale, commanded) in chosen.items():
        item: dict[str, Any] = {"quantity": quantity, "read": reference}
        if commanded:
            item["write"] = reference
        if kind != "analogue":
            item["kind"] = kind
        if scale != 1.0:
            item["scale"] = scale
        items.append(item)
    return items


def quantity_of(name: str, power_of_ten: int = 0) -> tuple[str | None, float]:
    """Quantity of a data object by its name below the logical node, and its scale where its unit has a multiplier."""
    quantity, scale = QUANTITIES.get(name, (None, 1.0))
    return quantity, float(f"{scale * 10.0**power_of_ten:.12g}")


def ied_names(path: Path) -> list[str]:
    """Names of the devices of an SCL file.

    Raises
    ------
    SclError
        See `read_scl`.
    """
    return [element.get("name", "") for element in _parsed(path, "").findall("{*}IED")]


def read_scl(path: Path, only: str | None = None) -> list[SclIed]:
    """Devices of an SCL file, all of them or those of one name.

    Raises
    ------
    SclError
        The file cannot be read, is no SCL, or tries to pull in other files.
    """
    root = _parsed(path, only)
    types, hosts = _Types(root), _hosts(root)
    wanted = [element for element in root.findall("{*}IED") if only is None or element.get("name") == only]
    return [_ied(element, types, hosts.get(element.get("name", ""))) for element in wanted]


def _parsed(path: Path, only: str | None) -> Element:
    """The document, with what is in the devices of other names thrown away as it is read."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, iterparse

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise SclError(f"{path}: is larger than {LARGEST_FILE // 1_000_000} MB")
        ied_tags = {"IED", f"{NAMESPACE}IED"}
        elements: Any = iterparse(path, events=("end",))
        for _, element in elements:
            # Some tools write the namespace of another edition, or none.
            if only is not None and element.tag in ied_tags and element.get("name") != only:
                name = element.get("name", "")
                element.clear()
                element.set("name", name)
        root: Element = elements.root
    except OSError as error:
        raise SclError(f"{path}: {error.strerror}") from None
    except SclError:
        raise
    except DefusedXmlException as error:
        raise SclError(f"{path}: holds what SCL needs not: {type(error).__name__}") from None
    except (ParseError, ValueError, LookupError) as error:
        raise SclError(f"{path}: is no XML: {error}") from None
    if root.tag.rpartition("}")[2] != "SCL":
        raise SclError(f"{path}: is no SCL file (its first element is {root.tag})")
    if root.find("{*}IED") is None:
        raise SclError(f"{path}: names no IED")
    return root


def _hosts(root: Element) -> dict[str, str]:
    """IP address of each device, as the section on communication tells."""
    found: dict[str, str] = {}
    for point in root.findall("{*}Communication/{*}SubNetwork/{*}ConnectedAP"):
        for item in point.findall("{*}Address/{*}P"):
            address = (item.text or "").strip()
            if item.get("type") == "IP" and address:
                found.setdefault(point.get("iedName", ""), address)
    return found


class _Types:
    """Data objects of each logical node type, and what the types of data objects say of them."""

    def __init__(self, root: Element) -> None:
        templates = root.find("{*}DataTypeTemplates")
        empty: list[Element] = []
        found = (
            {item.get("id", ""): item for item in (empty if templates is None else templates.findall(f"{{*}}{kind}"))}
            for kind in ("LNodeType", "DOType", "DAType")
        )
        self._nodes, self._objects, self._attributes = found
        self._found: dict[str, list[tuple[str, Element]]] = {}

    def data_objects(self, node_type: str) -> list[tuple[str, Element]]:
        """Name and type of each data object of a logical node, and of those within it (``PhV.phsA``)."""
        if node_type not in self._found:
            node = self._nodes.get(node_type)
            items = [] if node is None else node.findall("{*}DO")
            self._found[node_type] = [
                found for item in items for found in self._within(item.get("name", ""), item.get("type", ""), 0)
            ]
        return self._found[node_type]

    def _within(self, name: str, type_id: str, depth: int) -> Iterator[tuple[str, Element]]:
        found = self._objects.get(type_id)
        if found is None or depth > DEEPEST:
            return
        yield name, found
        for item in found.findall("{*}SDO"):
            yield from self._within(f"{name}.{item.get('name', '')}", item.get("type", ""), depth + 1)

    def value(self, kind: Element, *names: str) -> str | None:
        """The value that a type gives an attribute, such as ``units``, ``multiplier``."""
        attribute = _named(kind, "DA", names[0])
        for name in names[1:]:
            inner = None if attribute is None else self._attributes.get(attribute.get("type", ""))
            attribute = None if inner is None else _named(inner, "BDA", name)
        return None if attribute is None else attribute.findtext("{*}Val")


def _named(parent: Element, tag: str, name: str) -> Element | None:
    return next((item for item in parent.findall(f"{{*}}{tag}") if item.get("name") == name), None)


def _ied(element: Element, types: _Types, host: str | None) -> SclIed:
    name = element.get("name", "")
    points: list[SclPoint] = []
    reports: list[tuple[bool, str]] = []
    for device in element.findall("{*}AccessPoint/{*}Server/{*}LDevice"):
        logical_device = device.get("ldName") or f"{name}{device.get('inst', '')}"
        for node in (*device.findall("{*}LN0"), *device.findall("{*}LN")):
            node_name = f"{node.get('prefix', '')}{node.get('lnClass', '')}{node.get('inst', '')}"
            points += _points(f"{logical_device}/{node_name}", types, node)
            reports += _reports(f"{logical_device}/{node_name}", node)
    ordered = [reference for buffered, reference in sorted(reports, key=lambda item: not item[0])]
    return SclIed(name, element.get("manufacturer", ""), tuple(points), tuple(ordered), host)


def _points(node_name: str, types: _Types, node: Element) -> Iterator[SclPoint]:
    for name, kind in types.data_objects(node.get("lnType", "")):
        cdc = kind.get("cdc", "")
        if cdc not in SHOWN_CLASSES:
            continue
        own = _instance(node, name)
        multiplier = _own_value(own, "units", "multiplier")
        multiplier = types.value(kind, "units", "multiplier") if multiplier is None else multiplier
        model = _own_value(own, "ctlModel")
        model = types.value(kind, "ctlModel") if model is None else model
        setting = _named(kind, "DA", SETTINGS.get(cdc, ""))
        # A setting of a setting group is edited and confirmed, never just written.
        commanded = cdc in CONTROLLED if setting is None else setting.get("fc") == "SP"
        quantity, scale = quantity_of(name, MULTIPLIERS.get((multiplier or "").strip(), 0))
        yield SclPoint(
            f"{node_name}.{name}", cdc, SHOWN_CLASSES[cdc], quantity, scale, commanded and model != "status-only"
        )


def _instance(node: Element, name: str) -> Element | None:
    """What a logical node says of its own data object, beside its type."""
    first, *rest = name.split(".")
    found = _named(node, "DOI", first)
    for part in rest:
        found = None if found is None else _named(found, "SDI", part)
    return found


def _own_value(instance: Element | None, *names: str) -> str | None:
    for name in names[:-1]:
        instance = None if instance is None else _named(instance, "SDI", name)
    found = None if instance is None else _named(instance, "DAI", names[-1])
    return None if found is None else found.findtext("{*}Val")


def _reports(node: str, element: Element) -> Iterator[tuple[bool, str]]:
    for block in element.findall("{*}ReportControl"):
        buffered = block.get("buffered", "false") in {"true", "1"}
        enabled = block.find("{*}RptEnabled")
        # Blocks are numbered as soon as they are indexed, which is the default.
        indexed = block.get("indexed", "true") in {"true", "1"}
        number = "01" if indexed and enabled is not None else ""
        yield buffered, f"{node}.{'BR' if buffered else 'RP'}.{block.get('name', '')}{number}"

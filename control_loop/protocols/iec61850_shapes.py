"""Where in a data object its value, quality and time are, as the device itself says.

Attributes that a class leaves to the device (`origin`, `ctlNum`, `range`, an integer beside the float) move the
others, so names count, never places.

References
----------
IEC 61850-7-3 (common data classes), 61850-7-2 (GetDataDefinition), 61850-8-1 (functional constraints in MMS names).
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int
from dataclasses import dataclass, replace

from control_loop.protocols import iec61850_library as library

ANALOGUE = "analogue"
VALUES: dict[bool, tuple[str, ...]] = {
    True: ("mag", "mxVal", "cVal.mag", "setMag", "instMag", "instCVal.mag"),
    False: ("stVal", "setVal", "actVal", "general", "valWTr.posVal", "ctlVal"),
}
"""Names of what is measured or set, of analogue objects and of others."""
CONSTRAINTS: dict[bool, tuple[int, ...]] = {
    True: (library.FC_MX, library.FC_SP, library.FC_ST),
    False: (library.FC_ST, library.FC_SP, library.FC_MX),
}
"""Where it is looked for: measured values and status first, then set points."""


class LinkLostError(Exception):
    """The association does not answer any more."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the parts of a data object are.

    Attributes
    ----------
    constraint : int
        Functional constraint under which it is read.
    names : tuple of str
        Names of the attributes that lead from the object to its value.
    value : tuple of int
        The same as places in structures.
    quality, time : tuple of int or None
        Places of quality and time stamp; None without one.
    factor, offset : float
        Value = number x factor + offset, where the device has a scaled integer only.
    """

    constraint: int
    names: tuple[str, ...]
    value: tuple[int, ...]
    quality: tuple[int, ...] | None = None
    time: tuple[int, ...] | None = None
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Carried:
    """What an entry of a data set carries of an object; places are those in the entry, None: it is not in it."""

    name: str
    value: tuple[int, ...] | None
    quality: tuple[int, ...] | None
    time: tuple[int, ...] | None


class Shapes:
    """Asks a device for the structure of its objects.

    Parameters
    ----------
    lib : ctypes.CDLL
        The protocol's library.
    connection : int
        The association.
    """

    def __init__(self, lib: ctypes.CDLL, connection: int) -> None:
        self._lib = lib
        self._connection = connection

    def of(self, name: str, kind: str) -> Shape | None:
        """Shape of an object; None where the device has no such object, or no value of the kind in it.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        analogue = kind == ANALOGUE
        for constraint in CONSTRAINTS[analogue]:
            spec = self._specification(name, constraint)
            if not spec:
                continue
            try:
                shape = self._shape(spec, constraint, analogue)
            finally:
                self._lib.MmsVariableSpecification_destroy(spec)
            if shape is not None:
                return self._scaled(name, shape) if shape.names[-1:] == ("i",) else shape
        return None

    def carried(self, entry: str, objects: dict[str, Shape]) -> list[Carried]:
        """What an entry of a data set (``LD/LN.DO.DA[FC]``) carries of the objects.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        reference, _, constraint = entry.rstrip("]").partition("[")
        found: list[Carried] = []
        for name, shape in objects.items():
            if constraint != library.CONSTRAINT_NAMES.get(shape.constraint):
                continue
            if reference == name:
                found.append(Carried(name, shape.value, shape.quality, shape.time))
            elif reference.startswith(f"{name}."):
                found += _part(name, shape, tuple(reference[len(name) + 1 :].split(".")))
            elif name.startswith(f"{reference}."):
                place = self._place(reference, shape.constraint, name[len(reference) + 1 :])
                if place is not None:
                    found.append(
                        Carried(name, place + shape.value, _below(place, shape.quality), _below(place, shape.time))
                    )
        return found

    def _specification(self, name: str, constraint: int) -> int | None:
        error = c_int(0)
        spec = self._lib.IedConnection_getVariableSpecification(
            self._connection, byref(error), name.encode(), constraint
        )
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        return spec or None

    def _shape(self, spec: int, constraint: int, analogue: bool) -> Shape | None:
        lib = self._lib
        if lib.MmsVariableSpecification_getType(spec) != library.STRUCTURE:
            return Shape(constraint, (), ())  # the reference is already that of the attribute
        for wanted in VALUES[analogue]:
            names = tuple(wanted.split("."))
            found = self._descend(spec, names)
            if found is None:
                continue
            places, at = found
            if lib.MmsVariableSpecification_getType(at) == library.STRUCTURE:
                inner = next(((n, f) for n in ("f", "i") if (f := self._descend(at, (n,))) is not None), None)
                if inner is None:
                    continue
                names, places = (*names, inner[0]), places + inner[1][0]
            quality, time = self._descend(spec, ("q",)), self._descend(spec, ("t",))
            return Shape(constraint, names, places, quality and quality[0], time and time[0])
        number = self._descend(spec, ("f",)) if analogue else None
        return None if number is None else Shape(constraint, ("f",), number[0])

    def _descend(self, spec: int, names: tuple[str, ...]) -> tuple[tuple[int, ...], int] | None:
        """Places that lead to a named part of a structure, and that part."""
        places: list[int] = []
        for name in names:
            if self._lib.MmsVariableSpecification_getType(spec) != library.STRUCTURE:
                return None
            place = c_int(0)
            child = self._lib.MmsVariableSpecification_getChildSpecificationByName(spec, name.encode(), byref(place))
            if not child:
                return None
            places.append(place.value)
            spec = child
        return tuple(places), spec

    def _place(self, reference: str, constraint: int, below: str) -> tuple[int, ...] | None:
        spec = self._specification(reference, constraint)
        if not spec:
            return None
        try:
            found = self._descend(spec, tuple(below.split(".")))
        finally:
            self._lib.MmsVariableSpecification_destroy(spec)
        return None if found is None else found[0]

    def scaling(self, name: str, part: str) -> tuple[float, float] | None:
        """Factor and offset of a value that is an integer (``sVC``, ``magSVC``); None where the device has none.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        lib, numbers = self._lib, []
        for number in ("scaleFactor", "offset"):
            error = c_int(0)
            reference = f"{name}.{part}.{number}"
            read = lib.IedConnection_readObject(self._connection, byref(error), reference.encode(), library.FC_CF)
            if error.value in library.LINK_ERRORS:
                raise LinkLostError
            if read:
                if lib.MmsValue_getType(read) == library.FLOAT:
                    numbers.append(float(lib.MmsValue_toDouble(read)))
                lib.MmsValue_delete(read)
        return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] != 0 else None

    def _scaled(self, name: str, shape: Shape) -> Shape:
        """With the scaling of a value that is an integer only; as it is where the device has none."""
        found = self.scaling(name, "magSVC" if len(shape.names) > 2 else "sVC")
        return shape if found is None else replace(shape, factor=found[0], offset=found[1])


def _part(name: str, shape: Shape, part: tuple[str, ...]) -> list[Carried]:
    """An entry that is a part of the object: (a part of) its value, its quality or its time."""
    if part == ("q",):
        return [Carried(name, None, (), None)]
    if part == ("t",):
        return [Carried(name, None, None, ())]
    if shape.names[: len(part)] == part:
        return [Carried(name, shape.value[len(part) :], None, None)]
    return []


def _below(place: tuple[int, ...], part: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if part is None else place + part

"""Orders to IEC 61850 devices, in whichever control model the device has for the object."""

from __future__ import annotations

import ctypes
import threading
import time
from ctypes import byref, c_int
from dataclasses import dataclass, field
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.iec61850_shapes import ANALOGUE, LinkLostError, Shapes

TERMINATION_S = 1.5
CAUSE_S = 0.2
ORIGIN = b"flexergy"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A value that the device takes, as it describes it.

    Attributes
    ----------
    spec : int
        The library's description of its type; lives as long as the association.
    parts : tuple of str
        Names of its elements where it is a structure: ``f``, ``i`` or both.
    factor, offset : float
        The integer means integer x factor + offset.
    """

    spec: int
    parts: tuple[str, ...] = ()
    factor: float = 1.0
    offset: float = 0.0


@dataclass
class _Control:
    """A control object of an association, with what the device said of it."""

    handle: int
    model: int
    value: _Wanted
    ended: threading.Event = field(default_factory=threading.Event)
    handler: Any = None


class Controls:
    """What takes orders in one association: control objects, and set points that are written.

    A control object is asked once for its control model and type.

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
        self._values = Values(lib)
        self._known: dict[str, _Control] = {}
        self._settings: dict[str, list[tuple[str, _Wanted]]] = {}

    def operate(self, name: str, value: float) -> str | None:
        """Give an order; returns None when it was executed, else why not.

        Select before operate and enhanced security are followed as the object's control model wants; with enhanced
        security the order counts as executed when the device has said that it ended well.
        """
        control = self._control(name)
        if control is None:
            return self._write(name, value)
        if control.model == library.STATUS_ONLY:
            return "takes no orders (control model is status only)"
        try:
            wanted = self._made(control.value, value)
        except ValueError as error:
            return str(error)
        try:
            refused = self._give(control, wanted)
        finally:
            self._lib.MmsValue_delete(wanted)
        if refused is not None:
            return self._reason(control, refused)
        return self._await_end(control)

    def _write(self, name: str, value: float) -> str | None:
        """Write a set point (ASG, SPG, ING), which is no control object."""
        if name not in self._settings:
            self._settings[name] = self._setting(name)
        refused = "is neither a control object nor a set point of the device"
        for reference, wanted in self._settings[name]:
            try:
                made = self._made(wanted, value)
            except ValueError as error:
                return str(error)
            code = c_int(0)
            self._lib.IedConnection_writeObject(self._connection, byref(code), reference.encode(), library.FC_SP, made)
            self._lib.MmsValue_delete(made)
            if code.value == 0:
                return None
            refused = f"write was refused: {library.ERRORS.get(code.value, f'error {code.value}')}"
        return refused

    def _setting(self, name: str) -> list[tuple[str, _Wanted]]:
        """References and types by which the value of a set point can be written: itself, and the structure it is in."""
        shapes = Shapes(self._lib, self._connection)
        try:
            shape = shapes.of(name, ANALOGUE) or shapes.of(name, "integer")
        except LinkLostError:
            return []
        if shape is None or shape.constraint != library.FC_SP:
            return []
        references = [".".join((name, *shape.names[:length])) for length in (len(shape.names), len(shape.names) - 1)]
        found = [
            (reference, self._wanted(name, reference, library.FC_SP)) for reference in references if reference != name
        ]
        return [(reference, wanted) for reference, wanted in found if wanted is not None]

    def _made(self, wanted: _Wanted, value: float) -> int:
        """A control value of the device's type; to be deleted by the caller.

        Raises
        ------
        ValueError
            The device's type cannot hold it.
        """
        lib, make = self._lib, self._values.make
        if not wanted.parts:
            return make(wanted.spec, (value - wanted.offset) / wanted.factor)
        numbers = {"f": value, "i": (value - wanted.offset) / wanted.factor}
        elements: list[int] = []
        try:
            for place, part in enumerate(wanted.parts):
                spec = lib.MmsVariableSpecification_getChildSpecificationByIndex(wanted.spec, place)
                elements.append(make(spec, numbers[part]))
        except ValueError:
            for element in elements:
                lib.MmsValue_delete(element)
            raise
        made = lib.MmsValue_createEmptyStructure(len(elements))
        for place, element in enumerate(elements):
            lib.MmsValue_setElement(made, place, element)
        return made

    def _give(self, control: _Control, wanted: int) -> str | None:
        """Select where the control model wants it, and operate; returns what was refused."""
        lib = self._lib
        selected = self._select(control, wanted)
        # A refused select may mean that an order of ours, whose answer was lost, still holds the object: then the
        # device takes the order; where somebody else holds it, the device refuses it.
        control.ended.clear()
        if lib.ControlObjectClient_operate(control.handle, wanted, 0):
            return None
        return "operate was refused" if selected else "select was refused"

    def _select(self, control: _Control, wanted: int) -> bool:
        """Select the object where its control model wants it."""
        if control.model == library.SELECT:
            return bool(self._lib.ControlObjectClient_select(control.handle))
        if control.model == library.SELECT_ENHANCED:
            return bool(self._lib.ControlObjectClient_selectWithValue(control.handle, wanted))
        return True

    def _await_end(self, control: _Control) -> str | None:
        """With enhanced security, wait until the device says how the order ended."""
        if control.handler is None:
            return None
        if not control.ended.wait(TERMINATION_S):
            return "the device did not say that it ended"
        cause = self._lib.ControlObjectClient_getLastApplError(control.handle)
        return self._reason(control, "ended badly") if cause.error != 0 else None

    def forget(self) -> None:
        """Free all; before the association is."""
        for control in self._known.values():
            self._lib.ControlObjectClient_destroy(control.handle)
            self._lib.MmsVariableSpecification_destroy(control.value.spec)
        for _, wanted in (way for ways in self._settings.values() for way in ways):
            self._lib.MmsVariableSpecification_destroy(wanted.spec)
        self._known.clear()
        self._settings.clear()

    def _control(self, name: str) -> _Control | None:
        if name in self._known:
            return self._known[name]
        lib = self._lib
        handle = lib.ControlObjectClient_create(name.encode(), self._connection)
        if not handle:
            return None
        value = self._wanted(name, f"{name}.Oper.ctlVal", library.FC_CO)
        if value is None:
            lib.ControlObjectClient_destroy(handle)
            return None
        lib.ControlObjectClient_setOrigin(handle, ORIGIN, library.AUTOMATIC_REMOTE)
        control = _Control(handle, lib.ControlObjectClient_getControlModel(handle), value)
        if control.model in {library.DIRECT_ENHANCED, library.SELECT_ENHANCED}:
            ended = control.ended

            def terminated(_parameter: int, _control: int) -> None:
                ended.set()

            control.handler = library.TerminationHandler(terminated)
            lib.ControlObjectClient_setCommandTerminationHandler(handle, control.handler, None)
        self._known[name] = control
        return control

    def _wanted(self, name: str, reference: str, constraint: int) -> _Wanted | None:
        """Type of a value that an object takes at the reference; None where it takes no number there."""
        lib = self._lib
        spec = self._specification(reference, constraint)
        if spec is None:
            return None
        structure = lib.MmsVariableSpecification_getType(spec) == library.STRUCTURE
        places: dict[int, str] = {}
        for part in ("f", "i") if structure else ():
            place = c_int(0)
            if lib.MmsVariableSpecification_getChildSpecificationByName(spec, part.encode(), byref(place)):
                places[place.value] = part
        if structure and sorted(places) != list(range(lib.MmsVariableSpecification_getSize(spec))):
            lib.MmsVariableSpecification_destroy(spec)
            return None
        scaling = None
        if "i" in places.values() or reference.endswith(".i"):
            try:
                scaling = Shapes(lib, self._connection).scaling(name, "sVC")
            except LinkLostError:
                scaling = None
        return _Wanted(spec, tuple(places[place] for place in sorted(places)), *(scaling or (1.0, 0.0)))

    def _specification(self, reference: str, constraint: int) -> int | None:
        return self._lib.IedConnection_getVariableSpecification(
            self._connection, byref(c_int(0)), reference.encode(), constraint
        )

    def _reason(self, control: _Control, what: str) -> str:
        """What happened, and the device's cause, which some tell a little after they refused."""
        deadline = time.monotonic() + CAUSE_S
        while (told := self._lib.ControlObjectClient_getLastApplError(control.handle)).cause == 0:
            if told.error != 0 or time.monotonic() > deadline:
                return what
            time.sleep(CAUSE_S / 10)
        return f"{what}: {library.ADD_CAUSES[told.cause]}" if told.cause in library.ADD_CAUSES else what

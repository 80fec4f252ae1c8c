"""Orders to IEC 61850 devices, in whichever control model the device has for the object."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass, field
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_library import Values

TERMINATION_S = 1.5
ORIGIN = b"flexergy"


@dataclass
class _Control:
    """A control object of an association, with what the device said of it."""

    handle: int
    model: int
    value_type: int
    ended: threading.Event = field(default_factory=threading.Event)
    handler: Any = None


class Controls:
    """Control objects of one association.

    Creating one asks the device for its control model and type; that is done once for each object.

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

    def operate(self, name: str, value: float) -> str | None:
        """Give an order; returns None when it was executed, else why not.

        Select before operate and enhanced security are followed as the object's control model wants; with enhanced
        security the order counts as executed when the device has said that it ended well.
        """
        control = self._control(name)
        if control is None:
            return "is no control object"
        if control.model == library.STATUS_ONLY:
            return "takes no orders (control model is status only)"
        wanted = self._values.make(control.value_type, value)
        try:
            refused = self._give(control, wanted)
        finally:
            self._lib.MmsValue_delete(wanted)
        if refused is not None:
            return self._reason(control, refused)
        return self._await_end(control)

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
        self._known.clear()

    def _control(self, name: str) -> _Control | None:
        if name in self._known:
            return self._known[name]
        lib = self._lib
        handle = lib.ControlObjectClient_create(name.encode(), self._connection)
        if not handle:
            return None
        lib.ControlObjectClient_setOrigin(handle, ORIGIN, library.AUTOMATIC_REMOTE)
        control = _Control(
            handle, lib.ControlObjectClient_getControlModel(handle), lib.ControlObjectClient_getCtlValType(handle)
        )
        if control.model in {library.DIRECT_ENHANCED, library.SELECT_ENHANCED}:
            ended = control.ended

            def terminated(_parameter: int, _control: int) -> None:
                ended.set()

            control.handler = library.TerminationHandler(terminated)
            lib.ControlObjectClient_setCommandTerminationHandler(handle, control.handler, None)
        self._known[name] = control
        return control

    def _reason(self, control: _Control, what: str) -> str:
        cause = self._lib.ControlObjectClient_getLastApplError(control.handle).cause
        return f"{what}: {library.ADD_CAUSES[cause]}" if cause in library.ADD_CAUSES else what

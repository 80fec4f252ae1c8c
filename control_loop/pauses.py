"""Keeping the interpreter's own pauses, and long turns of its event loop, out of the control cycle.

A full garbage collection walks every object of the process: with the libraries of this service some 70 ms of computing,
in which no cycle runs and no device is heard. What lives as long as the service is therefore set aside, once the loops
run; collections then look only at what came later, which is little.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Hashable

AT_ONCE = 20
"""Devices whose reading or writing begins in one turn of the event loop."""


async def breathe() -> None:
    """Let the event loop hear what waits: with hundreds of devices the parts of a cycle together keep it too long."""
    await asyncio.sleep(0)


class LongLived:
    """Sets aside what lives as long as the loops do, anew each time they changed.

    Notes
    -----
    A change of the configuration costs one full collection, for what an ended loop left must not stay for ever.
    """

    def __init__(self) -> None:
        self._seen: Hashable = None
        self._set_aside_for: Hashable = None

    def look(self, running: Hashable) -> bool:
        """Set aside once `running` (what tells one state of the service from another) was the same twice in a row.

        Returns
        -------
        bool
            Whether it was done now.
        """
        settled = running == self._seen
        self._seen = running
        if not settled or running == self._set_aside_for:
            return False
        self._set_aside_for = running
        self.set_aside()
        return True

    def set_aside(self) -> None:
        """Collect what is garbage now, then leave all that is there out of later collections."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def end(self) -> None:
        """Leave everything to the collector again."""
        gc.unfreeze()
        self._seen = self._set_aside_for = None

"""How the suite is spread over processes: file by file, the running platform's tests in one of them and first."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

_PLATFORM = "tests/system"


class PlatformFirst(LoadFileScheduling):
    """A file's tests share a process and its fixtures; `tests/system` starts one platform, and takes longest."""

    def _split_scope(self, nodeid: str) -> str:
        return _PLATFORM if nodeid.startswith(f"{_PLATFORM}/") else super()._split_scope(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if _PLATFORM in self.workqueue:
            self.workqueue.move_to_end(_PLATFORM, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> PlatformFirst:
    """The order of a run with `-n`."""
    return PlatformFirst(config, log)

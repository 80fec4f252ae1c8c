"""Worker processes for protocol libraries that must not share a process with anything else.

A worker is a module of this package that reads JSON lines from its standard input and writes JSON lines to its standard
output. The first line it gets is its specification. It ends when its input ends, so it never outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

from flexergy_pipelines.logs import get_logger

log = get_logger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STEADY_S = 60.0
"""A worker that ran this long starts afresh with the shortest backoff."""
STOP_PATIENCE_S = 3.0
LARGEST_BACKLOG = 1_000_000
"""Bytes that may wait for a worker that does not read."""

Message = dict[str, Any]


class Worker:
    """A supervised worker process: started again with growing backoff whenever it ends.

    Parameters
    ----------
    module : str
        Module to run.
    spec : dict
        Its specification, sent first after every start.
    on_message : callable
        Called in the event loop with every message of the worker.
    on_end : callable
        Called in the event loop whenever the worker ended.
    """

    def __init__(
        self, module: str, spec: Message, on_message: Callable[[Message], None], on_end: Callable[[], None]
    ) -> None:
        self.module = module
        self.restarts = 0
        self._spec = spec
        self._on_message = on_message
        self._on_end = on_end
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the worker and watch over it."""
        self._supervisor = asyncio.create_task(self._supervise())

    def send(self, message: Message) -> bool:
        """Send a message; returns False, and drops it, while the worker is away or does not keep up."""
        stdin = None if self._process is None else self._process.stdin
        if stdin is None or stdin.is_closing() or stdin.transport.get_write_buffer_size() > LARGEST_BACKLOG:
            return False
        stdin.write(json.dumps(message).encode() + b"\n")
        return True

    async def stop(self) -> None:
        """End the worker: by closing its input, by force if it does not listen."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            await self._run_once()
            self._on_end()
            if loop.time() - begun_s > STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            self.restarts += 1
            log.warning("worker ended, starting it again", worker=self.module, after_s=backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _run_once(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._process = process
        self.send(self._spec)
        while process.stdout is not None and (line := await process.stdout.readline()):
            with contextlib.suppress(ValueError):  # libraries print to standard output as well
                message = json.loads(line)
                if isinstance(message, dict):
                    self._on_message(message)
        await process.wait()

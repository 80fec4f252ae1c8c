"""A supervised worker process: what speaks a fragile library, restarted with backoff when it dies or falls silent."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from flexergy_pipelines.logs import get_logger

SILENCE_S = 3.0
"""A worker that said nothing for so long hangs; it is killed and started again."""
STEADY_S = 30.0
"""Only a worker that ran for so long is started again as fast as after its first failure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command; it is true when it was done.

    Attributes
    ----------
    reason : str
        Why it was not, in words; empty where the worker does not say.
    """

    done: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.done


class Worker:
    """A child process that takes and gives one JSON object a line.

    Parameters
    ----------
    module : str
        Module to run.
    first_line : callable
        Makes what the worker must know; sent at each start.
    on_message : callable
        Called with each message that is no answer to a command.
    """

    def __init__(
        self,
        module: str,
        first_line: Callable[[], Any],
        on_message: Callable[[dict[str, Any]], None],
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self.starts = 0
        self.module = module
        self._first_line = first_line
        self._on_message = on_message
        self._backoff = backoff or Backoff(0.5, 15.0)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._heard = 0.0
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 1
        self._starting = asyncio.Lock()
        self._idle = False
        self._log = get_logger(__name__).bind(worker=module)

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def prepare(self) -> None:
        """Have a worker wait that has loaded its library and been told nothing yet; one that runs stays as it is."""
        async with self._starting:
            if self._process is None:
                await self._launch()
                self._idle = True

    async def ensure(self) -> None:
        """Start the worker where it does not run, or hangs; one that waits is told what it must know.

        Raises
        ------
        DriverError
            While it waits for its next start.
        """
        async with self._starting:
            if self.pid is not None and not self._idle and time.monotonic() - self._heard < SILENCE_S:
                return
            now = time.monotonic()
            if self._idle and self._process is not None and self.pid is not None:
                self._begin(self._process)
                return
            if self._process is not None:
                self._log.warning("worker died or hangs; it is started again", returncode=self._process.returncode)
                self._backoff.failed(now)
                await self.stop()
            if not self._backoff.ready(now):
                raise DriverError(f"{self.module}: down, next start in {self._backoff.wait_s(now):.1f} s")
            self._begin(await self._launch())

    async def _launch(self) -> asyncio.subprocess.Process:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        self.starts += 1
        return process

    def _begin(self, process: asyncio.subprocess.Process) -> None:
        """Tell a new worker what it must know, and listen to it."""
        self._idle = False
        self._heard = time.monotonic() + 10.0  # imports take their time
        self._send(self._first_line())
        self._reader = asyncio.create_task(self._read(process))

    async def ask(self, command: dict[str, Any], timeout_s: float) -> Answer:
        """Send a command and wait for its answer; the worker is told until when that is waited for.

        Raises
        ------
        DriverError
            No answer in time.
        """
        await self.ensure()
        number, self._next_id = self._next_id, self._next_id + 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send(command | {"id": number, "until": time.monotonic() + timeout_s})
            return await asyncio.wait_for(answer, timeout_s)
        except (TimeoutError, ConnectionError) as error:
            raise DriverError(f"{self.module}: no answer within {timeout_s:g} s") from error
        finally:
            self._answers.pop(number, None)

    def tell(self, command: dict[str, Any]) -> None:
        """Send a command that is not answered; one that does not run hears nothing."""
        if self.pid is not None:
            self._send(command)

    async def stop(self) -> None:
        """End the worker: its input is closed, and it is killed when that is not enough."""
        process, self._process = self._process, None
        self._idle = False
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        self._give_up_waiting()
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), 1.0)
            except TimeoutError:
                process.kill()
                await process.wait()
            except asyncio.CancelledError:
                process.kill()  # nobody else knows of it any more
                raise
        # The transport would complain at the end of the interpreter about a pipe nobody reads to its end.
        transport: Any = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()

    def _send(self, message: Any) -> None:
        if self._process is None or self._process.stdin is None:
            raise DriverError(f"{self.module}: does not run")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _give_up_waiting(self) -> None:
        """Nobody will answer what was asked."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DriverError(f"{self.module}: ended before it answered"))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        began = time.monotonic()
        while process.stdout is not None:
            try:
                line = await process.stdout.readline()
            except ValueError:  # no line of ours is so long
                continue
            if not line:
                break
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library printed something
            if not isinstance(message, dict):
                continue
            now = self._heard = time.monotonic()
            if now - began > STEADY_S:
                self._backoff.succeeded()
            try:
                self._take(message)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._log.warning("a message of the worker is not understood", error=repr(error))
        self._heard = float("-inf")  # who has closed its output will not be heard, even before its end is known
        self._give_up_waiting()

    def _take(self, message: dict[str, Any]) -> None:
        if "answer" not in message:
            self._on_message(message)
            return
        waiting = self._answers.get(message["answer"])
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(bool(message["done"]), str(message.get("reason", ""))))

"""What a person sees while the platform comes up: one line a step, live on a terminal, plain in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Progress:
    """Reports steps to standard error, so that standard output stays free for the result."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._begun = time.monotonic()
        self.timings_s: dict[str, float] = {}

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show `what` as running, then as done with its duration."""
        begun = time.monotonic()
        with self.running(what):
            yield
        self.done(what, time.monotonic() - begun)

    @contextmanager
    def running(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show `what` as running on a terminal; yields a function that shows something else instead."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        with self.console.status(escape(what)) as status:
            yield lambda now: status.update(escape(now))

    def done(self, what: str, seconds: float, detail: str = "") -> None:
        self.timings_s[what] = round(seconds, 2)
        tail = f"  [dim]{escape(detail)}[/dim]" if detail else ""
        self.console.print(f"[green]✓[/green] {escape(what):<44} [dim]{seconds:6.1f} s[/dim]{tail}")

    def failed(self, what: str, detail: str) -> None:
        self.console.print(f"[red]✗[/red] {escape(what):<44} {escape(detail)}")

    def say(self, text: str) -> None:
        self.console.print(escape(text))

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._begun

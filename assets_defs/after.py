"""Start a process once a UNIX socket answers: ``python -m assets_defs.after SOCKET PROGRAM ARGUMENT...``.

Webserver and daemon complain at length when the code server they share is not there yet.
"""

import os
import socket
import sys
import time

PATIENCE_S = 90.0


def wait_for(path: str, patience_s: float = PATIENCE_S, pause_s: float = 0.1) -> bool:
    """Whether something accepts connections at `path` before `patience_s` seconds are over."""
    deadline = time.monotonic() + patience_s
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(path)
            except OSError:
                if time.monotonic() >= deadline:
                    return False
            else:
                return True
        time.sleep(pause_s)


def main(words: list[str]) -> None:
    """Wait, then become the program; without an answer it starts all the same and says itself what is missing."""
    path, *program = words
    wait_for(path)
    os.execv(program[0], program)  # noqa: S606 - the command line is the platform's own


if __name__ == "__main__":
    main(sys.argv[1:])

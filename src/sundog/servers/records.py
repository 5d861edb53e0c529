"""Servers that sundog has started: their records in the state folder, and their processes.

Owns one JSON file and one log for each server, and how its processes are found, started and ended. Never waits for a
server to be ready and never asks it anything.

A record is written before its process is started, with a token that the process gets in its environment. So a server is
found by its token whatever happened to whoever started it, and no process is ever taken for a server because of a
number that was used before.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sundog.engines.served import ServerCommand
from sundog.errors import StoreError
from sundog.ir.values.canonical import fingerprint
from sundog.private_files import make_private_folder, open_private

TOKEN_VARIABLE = "SUNDOG_SERVER_TOKEN"
LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server."""

    #: The key of its command and place.
    key: str
    engine: str
    place: str
    model: str
    base_url: str
    health_url: str
    port: int
    token: str
    #: The time of its start, in seconds since 1970.
    time_s: float
    #: The process of the run that stops it in its end, None for a server that stays until `sundog engine down`.
    owner_pid: int | None = None
    #: None until the process is started.
    pid: int | None = None


class ServerRecords:
    """The records of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "servers"

    def all(self) -> list[ServerRecord]:
        """Return all records in the order of their engines and places; StoreError for a damaged file."""
        found = [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        return sorted(found, key=lambda record: (record.engine, record.place, record.key))

    def get(self, key: str) -> ServerRecord | None:
        path = self._folder / f"{key}.json"
        return self._read(path) if path.exists() else None

    def put(self, record: ServerRecord) -> None:
        """Write a record, whole or not at all."""
        make_private_folder(self._folder)
        with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".part", delete=False) as file:
            file.write(json.dumps(asdict(record), indent=2) + "\n")
        Path(file.name).replace(self._folder / f"{record.key}.json")

    def forget(self, record: ServerRecord) -> None:
        (self._folder / f"{record.key}.json").unlink(missing_ok=True)

    def log_path(self, record: ServerRecord) -> Path:
        return self._folder / f"{record.key}.log"

    def log_tail(self, record: ServerRecord) -> str:
        """Return the end of what the server has printed."""
        with suppress(FileNotFoundError), self.log_path(record).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
        return ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Against other processes that start or stop servers of this folder."""
        make_private_folder(self._folder)
        with os.fdopen(open_private(self._folder / "lock", os.O_WRONLY), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def spawn(self, record: ServerRecord, command: ServerCommand) -> ServerRecord:
        """Start the process of a record, in a process group of its own; the record is put before and after."""
        self.put(record)
        environment = {**os.environ, **command.environment, TOKEN_VARIABLE: record.token}
        log = os.open(self.log_path(record), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        try:
            pid = os.posix_spawnp(command.argv[0], command.argv, environment, file_actions=actions, setsid=True)
        except OSError as error:
            raise StoreError(f"{command.argv[0]} cannot be started: {error.strerror}") from error
        finally:
            os.close(log)
            os.close(null)
        started = ServerRecord(**{**asdict(record), "pid": pid})
        self.put(started)
        return started

    def _read(self, path: Path) -> ServerRecord:
        try:
            return ServerRecord(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            what = f"the record of a server cannot be read: {error}"
            raise StoreError(what, where=str(path), hint="end the server by hand and delete the file") from error


def new_record(engine: str, place: str, model: str, command: ServerCommand, port: int, key: str) -> ServerRecord:
    token = uuid.uuid4().hex
    return ServerRecord(key, engine, place, model, command.base_url, command.health_url, port, token, time.time())


def record_key(identity: Mapping[str, Any], place: str) -> str:
    """Return the name of the servers of one command at one place; equal in every flow."""
    return f"{fingerprint(dict(identity), size_bytes=6).hex()}-{place}"


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of an address of this machine that nobody listens at now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(record: ServerRecord) -> list[int]:
    """Return the living processes of a server, its children among them, lowest number first."""
    if record.pid is not None:
        # Where this process started it, its end must be taken note of, or it stays as a zombie.
        with suppress(ChildProcessError):
            os.waitpid(record.pid, os.WNOHANG)
    mark = f"{TOKEN_VARIABLE}={record.token}".encode()
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = {pid for pid in pids if mark in _environment(pid)}
    # Once it has ended it has no environment, even while nobody has taken note of that; while it ends, an empty one.
    if record.pid is not None and (record.pid in found or _has_left(record.pid)):
        # vLLM's engine processes write their titles over their environment; they are of the first one's session.
        found |= {pid for pid in pids if _session(pid) == record.pid}
    return sorted(found)


def _has_left(pid: int) -> bool:
    """Return whether a process has ended or is about to; an environment that may not be read says nothing."""
    if _session(pid) is None:
        return True
    try:
        return not _environ_path(pid).read_bytes()
    except PermissionError:
        return False
    except OSError:
        return True


def _environ_path(pid: int) -> Path:
    return Path(f"/proc/{pid}/environ")


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):
        return _environ_path(pid).read_bytes().split(b"\0")
    return []


def _session(pid: int) -> int | None:
    """Return the session of a process; None for one that has ended, whether anybody has taken note of it or not."""
    with suppress(OSError):
        state, _parent, _group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
        return None if state == "Z" else int(session)
    return None


def is_alive(record: ServerRecord) -> bool:
    """Return whether the server's first process lives: what it leaves behind serves nobody."""
    living = processes_of(record)
    return record.pid in living or _takes_up_a_program(record.pid) if record.pid is not None else bool(living)


def _takes_up_a_program(pid: int) -> bool:
    """Return whether it is the first of its session and has no environment, as for a moment while it executes a
    program."""
    return _session(pid) == pid and not any(_environment(pid))


def end(record: ServerRecord, number: signal.Signals) -> None:
    """Send a signal: SIGTERM to the first process, which ends its children; any other to all."""
    living = processes_of(record)
    first = [record.pid] if record.pid in living else living
    for pid in first if number is signal.SIGTERM else living:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_owner_gone(record: ServerRecord) -> bool:
    """Return whether the run that was to stop it has ended without doing so."""
    if record.owner_pid is None:
        return False
    with suppress(PermissionError):
        try:
            os.kill(record.owner_pid, 0)
        except ProcessLookupError:
            return True
    return False

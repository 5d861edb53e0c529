"""The list of runs: which there are, which one a command means, and who works on it now.

Owns run records and their locks. Never touches rows or results.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sundog.errors import ConfigError, UserError, suggest
from sundog.private_files import make_private_folder, open_private
from sundog.store.schema import store_error
from sundog.store.segments.run_files import drop_unkept, fetch_files, keep_files, kept_paths
from sundog.store.statements import StoreStatement
from sundog.store.store import Store

RunState = Literal["unfinished", "waits", "finished", "live"]
"""The state of a run; live: the run of a served flow, which has no end."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run."""

    run_id: str
    #: The key of the plan, the inputs as written and the output.
    command: bytes
    #: The same with the inputs' content.
    identity: bytes
    flow: str
    output: str
    state: RunState
    #: It has no result in common with another run.
    is_fresh: bool
    started_at: str
    ended_at: str | None
    #: Rows of its input.
    num_rows: int
    #: Seconds that processes worked on it.
    busy_s: float
    #: Equal for runs whose effects are the same ones, empty without effects.
    effects: bytes
    #: Digests by file, as JSON, of the code that its functions are in.
    modules: str
    #: It was said that this run may repeat those of others.
    repeats_effects: bool


STORED_COLUMNS = (
    "run_id, command, identity, flow, output, state, is_fresh, started_at, ended_at, num_rows, busy_s,"
    " effects, modules, repeats_effects"
)
_PUT_RUN = StoreStatement("put_run", f"insert into runs values ({', '.join('?' * 14)})")
_SERVE = StoreStatement("serve_run", "update runs set state = ?, identity = ? where run_id = ?")
_ALLOW_REPEATS = StoreStatement("allow_repeats", "update runs set repeats_effects = 1 where run_id = ?")
_PUT_MODULES = StoreStatement("put_modules", "update runs set modules = ? where run_id = ?")
_GO_ON = StoreStatement("go_on", "update runs set state = 'unfinished' where run_id = ?")
_END = StoreStatement("end_run", "update runs set state = ?, ended_at = ?, busy_s = ? where run_id = ?")
_FORGET = StoreStatement("forget_run", "delete from runs where run_id = ?")
MADE_TABLES = "tables/*"
"""In the folder of a run, what its queries have made."""
_FILES_OF_RUNS = ("*", "inputs/*", MADE_TABLES)
MAX_NAME = 40
"""Characters of a flow's name in the id of a run, which names a folder."""


class RunList:
    """The runs of one state folder."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self._store = store
        self.state_dir = state_dir

    @property
    def where(self) -> str:
        """Return the folder or URL that the user named, for messages."""
        return str(self.state_dir) if self._store.cache is None else self._store.cache.url

    def all(self) -> list[RunRecord]:
        """Return all runs, newest first: by their number in a folder, since a clock may have been set, and by their
        beginning at a URL."""
        # Numbers follow the order in which this machine has read the logs of several.
        newest = "rowid desc" if self._store.cache is None else "started_at desc, rowid desc"
        return self._select(f"order by {newest}", ())

    def find(self, run_id: str) -> RunRecord:
        """Return the run of that id; ConfigError when there is none."""
        found = self._select("where run_id = ?", (run_id,))
        if not found:
            known = [record.run_id for record in self.all()]
            raise ConfigError(f"there is no run '{run_id}' in {self.where}", hint=suggest(run_id, known))
        return found[0]

    def latest(self, command: bytes) -> RunRecord | None:
        """Return the newest run of a command."""
        found = self._select("where command = ? order by rowid desc limit 1", (command,))
        return found[0] if found else None

    def start(
        self,
        command: bytes,
        identity: bytes,
        flow: str,
        output: str,
        num_rows: int,
        *,
        is_fresh: bool,
        effects: bytes = b"",
        modules: str = "{}",
    ) -> RunRecord:
        """Write a new run down and return its record. `command` and `identity` are the keys by which an equal command
        finds it again."""
        run_id = f"{_file_name(flow)}-{uuid.uuid4().hex[:8]}"
        state, begun = ("unfinished", int(is_fresh)), (_now(), None, num_rows, 0.0)
        values = (run_id, command, identity, flow, output, *state, *begun, effects, modules, 0)
        self._store.change((_PUT_RUN, values))
        return self.find(run_id)

    def live(self, command: bytes, flow: str, identity: bytes) -> RunRecord:
        """Return the live run of a served flow, and begin it where there is none. `identity`: of its plan now."""
        record = self.latest(command) or self.start(command, identity, flow, "", 0, is_fresh=False)
        values = ("live", identity, record.run_id)
        self._store.change((_SERVE, values))
        return self.find(record.run_id)

    def others_with_effects(self, effects: bytes, nodes: Sequence[str], but: str) -> list[tuple[str, int]]:
        """Return (run, number of effects that it has made or begun) of each other run with the same `effects`, newest
        first. `nodes`: the steps that are effects."""
        query = """
            select run_id,
                (select coalesce(sum(num_calls), 0) from executed
                    where executed.run_id = runs.run_id and node in (select value from json_each(?)))
                + (select count(*) from claims where claims.run_id = runs.run_id) as num_effects
            from runs where effects = ? and run_id is not ? order by rowid desc
        """
        found = self._store.select(query, (json.dumps(list(nodes)), effects, but))
        return [(run_id, number) for run_id, number in found if number]

    def at_work_with_effects(self, effects: bytes, run_id: str, *, is_new: bool) -> str | None:
        """Return another run with the same `effects` on which a process works now. In a folder, of two that begin at
        the same time only the later one finds the other: both are in the list, and locked, before either looks. At a
        URL each may find the other, since their logs have no order."""
        query = "select run_id, command from runs where effects = ? and run_id is not ? and command is not ?"
        own = self.find(run_id).command
        values = [effects, run_id, own]
        if is_new and self._store.cache is None:
            query += " and rowid < (select rowid from runs where run_id = ?)"
            values.append(run_id)
        found = self._store.select(query, tuple(values))
        at_work = self.at_work(command for _, command in found)
        return next((other for other, command in found if command in at_work), None)

    def allow_repeats(self, run_id: str) -> None:
        self._store.change((_ALLOW_REPEATS, (run_id,)))

    def put_modules(self, run_id: str, modules: str) -> None:
        self._store.change((_PUT_MODULES, (modules, run_id)))

    def go_on(self, run_id: str) -> None:
        """Say that a process works on the run, so that it is unfinished if that is killed."""
        self._store.change((_GO_ON, (run_id,)))

    def end(self, run_id: str, state: RunState, busy_s: float) -> None:
        values = (state, _now(), busy_s, run_id)
        self._store.change((_END, values))

    def forget(self, run_id: str) -> None:
        """Take a run that has made no call, and its snapshots of rows, out of the list."""
        self._store.change((_FORGET, (run_id,)))
        shutil.rmtree(self.folder(run_id), ignore_errors=True)

    def keep_files(self, run_id: str, pattern: str) -> None:
        """Make the files of a run's folder that fit a pattern as safe as its rows are."""
        keep_files(self._store, run_id, self.folder(run_id), pattern)

    def fetch_files(self, run_id: str) -> None:
        """Let the folder of a run that is locked have its files, and no made table of a process that was replaced."""
        for pattern in _FILES_OF_RUNS:
            fetch_files(self._store, run_id, self.folder(run_id), pattern)
        drop_unkept(self._store, run_id, self.folder(run_id), MADE_TABLES)

    def fetch_event_logs(self, run_id: str, cell: str = "") -> None:
        """Let the folder of a run have its event logs, also where another machine has written them. `cell`: the folder
        in it that has those of a cell."""
        fetch_files(self._store, run_id, self.folder(run_id), f"{cell}/events-*" if cell else "events-*")

    def fetch_file(self, run_id: str, path: str) -> None:
        """Let the folder of a run have a file, if that was kept."""
        fetch_files(self._store, run_id, self.folder(run_id), path)

    def cells(self, run_id: str) -> list[str]:
        """Return the cells of a run whose event logs were kept, sorted by name."""
        if self._store.cache is None:
            return []
        paths = kept_paths(self._store, run_id, "*/events-*")
        return sorted({path.partition("/")[0] for path in paths})

    def folder(self, run_id: str) -> Path:
        """Return where the run keeps its event log and its snapshots of rows."""
        return self.state_dir / "runs" / run_id

    def at_work(self, commands: Iterable[bytes]) -> set[bytes]:
        """Return those commands on a run of which a process works now."""
        locked, free = set[bytes](), set[bytes]()
        for command in {*commands}:
            try:
                with self._file_lock(command):
                    free.add(command)
            except UserError:
                locked.add(command)
        if self._store.cache is not None and free:
            locked |= {*map(bytes.fromhex, self._store.cache.at_work(command.hex() for command in free))}
        return locked

    def meet_others(self) -> None:
        """Have what was committed here be seen by others, and see what they have, where the state lies at a URL: in a
        folder that is so anyway."""
        self._store.meet_others()

    @contextmanager
    def lock(self, command: bytes) -> Iterator[None]:
        """Keep other processes off the runs of this command. The lock ends with the process, however that dies."""
        with self._file_lock(command), self._store.writing_to(command.hex()):
            yield

    @contextmanager
    def changing(self, run_id: str) -> Iterator[None]:
        """Let a run be changed by whoever does not work on it: in a folder at any time, at a URL while nobody does,
        since its log has one writer. UserError where a process works on it."""
        if self._store.cache is None:
            yield
        else:
            with self.lock(self.find(run_id).command):
                yield

    @contextmanager
    def _file_lock(self, command: bytes) -> Iterator[None]:
        path = self.state_dir / "locks" / command.hex()
        make_private_folder(path.parent)
        try:
            descriptor = open_private(path, os.O_RDWR)
        except OSError as error:
            raise store_error(path, error) from error
        try:
            _lock_or_refuse(descriptor)
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def _select(self, rest: str, values: tuple[object, ...]) -> list[RunRecord]:
        return [RunRecord(*row) for row in self._store.select(f"select {STORED_COLUMNS} from runs {rest}", values)]


def _lock_or_refuse(descriptor: int) -> None:
    """Take the lock; UserError with the holder's pid when it is held. Who only looks holds it for an instant."""
    for wait_s in (0.02, 0.1, 0.3, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if wait_s is None:
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                if holder == str(os.getpid()):
                    raise UserError(
                        "this process is working on this run already: a stream of it, or another call, is still open",
                        hint="close the stream with `await stream.aclose()` (one that a loop has left closes itself "
                        "a moment later, while the event loop is free), or wait for the other call",
                    ) from error
                raise UserError(
                    f"another process (pid {holder}) is working on this run",
                    hint="wait for it, or stop it; then repeat the command to continue the run",
                ) from error
            time.sleep(wait_s)


def _file_name(flow: str) -> str:
    """Make a part of a file name of a flow's name: whatever else it holds is a dash, and no dash comes first, since a
    command would take the id of the run for an option."""
    name = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in flow[:MAX_NAME])
    return name.lstrip("-") or "run"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

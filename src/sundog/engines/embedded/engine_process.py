"""A model in a process of its own, and the way of its results to the event loop.

Owns the process: its start, its end, and another start after an unexpected end. Never knows which engine it is: how to
load the model is handed in. Never decides who runs first.

Why a process: a model in native code may hold Python's lock for a whole step, and every tool and every other engine
would stand still meanwhile; and when it crashes or runs out of memory, only its own requests fail.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from sundog.engines.embedded.engine_worker import LoopLoad
from sundog.engines.embedded.job_loop import JobCommand, JobLoop, is_last
from sundog.engines.embedded.process_pipe import pack, receive
from sundog.errors import EngineError, EngineUnavailable, SundogError

A = TypeVar("A")
J = TypeVar("J")
R = TypeVar("R")

# The process imports what this one can, and nothing of the user's: no script is run again, whatever `__main__` is.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from sundog.engines.embedded.engine_worker import main; main()"
# So many processes in a row may die before they finish any answer; then it is not the requests' fault.
MAX_FUTILE_PROCESSES = 2
STDERR_BYTES = 4096


@dataclass(slots=True, eq=False)
class Stream(Generic[R]):
    """One job on its way; its results arrive in order, at the end the last one or an error."""

    number: int
    process: _Process
    results: asyncio.Queue[R | EngineError] = field(default_factory=asyncio.Queue)

    def abort(self) -> None:
        """Free what the job holds; nothing happens if it has ended."""
        self.process.abort(self.number)


class EngineProcess(Generic[J, R]):
    """This class runs a loop of jobs in a process of its own, and starts it again when it dies. `load` is a function of
    a module that gives the loop, which stays in the process, and facts of it, which `start` returns. `argument`, facts,
    jobs and results are picklable."""

    def __init__(self, load: Callable[[A], tuple[JobLoop[J, R], Any]], argument: A) -> None:
        self._load = (load, argument)
        self._process: _Process | None = None
        self._lock = asyncio.Lock()
        self._num_futile = 0
        self._refusal: str | None = "the engine is not started"

    async def spawn(self) -> None:
        """Start the process, and return when the process has begun to load."""
        self._refusal = None
        await self._current()

    async def start(self) -> Any:
        """Return the facts, when the model is loaded; raises the SundogError of loading it, or EngineUnavailable."""
        if self._process is None:
            await self.spawn()
        assert self._process is not None
        return await asyncio.shield(self._process.loaded)

    async def submit(self, job: J) -> Stream[R]:
        """Send a request and return its stream. It starts the process again if it has died; EngineUnavailable if that
        fails, or failed too often."""
        return (await self._ready()).submit(job)

    async def close(self) -> None:
        """Kill the process: it has nothing to save. Every job still running fails."""
        self._refusal = "the engine is closed"
        async with self._lock:
            if self._process is not None:
                await self._process.close(EngineUnavailable(self._refusal))

    async def _ready(self) -> _Process:
        process = await self._current()
        # Others wait for the same process.
        await asyncio.shield(process.loaded)
        return process

    async def _current(self) -> _Process:
        async with self._lock:
            if self._refusal is not None:
                raise EngineUnavailable(self._refusal)
            if self._process is None or self._process.death is not None:
                self._check_death(self._process)
                self._process = await _Process.spawn(self._load)
            return self._process

    def _check_death(self, dead: _Process | None) -> None:
        if dead is None or dead.has_answered:
            self._num_futile = 0
        else:
            self._num_futile += 1
        if dead is not None and self._num_futile >= MAX_FUTILE_PROCESSES:
            self._refusal = f"the engine is gone: {dead.death}, the second time before it had finished any answer"
            raise EngineUnavailable(self._refusal)


class _Process:
    """One process, from its start to its death: `death` says how it died, `loaded` is done when it takes jobs."""

    def __init__(self, process: Process, load: LoopLoad) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._stderr = b""
        self._streams: dict[int, Stream[Any]] = {}
        self._numbers = count()
        self._commands: list[JobCommand] = []
        self.death: str | None = None
        self.has_answered = False
        self._stdin.write(pack(load))
        self.loaded = asyncio.create_task(self._read_first())
        self._readers = [asyncio.create_task(self._read_results()), asyncio.create_task(self._read_stderr())]

    @classmethod
    async def spawn(cls, load: LoopLoad) -> _Process:
        """Start the process, with this interpreter and its paths, and let it begin to load. EngineUnavailable where the
        system starts none."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", PROGRAM, *sys.path),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                # Ctrl-C is for the parent, which drains. A group alone would do, but other event loops make none.
                start_new_session=True,
            )
        except OSError as error:
            raise EngineUnavailable(f"the engine's process cannot be started: {error}", retryable=True) from error
        return cls(process, load)

    def submit(self, job: Any) -> Stream[Any]:
        """Send a request to the process and return the stream of its answer. EngineUnavailable where the process is
        dead."""
        if self.death is not None:
            raise EngineUnavailable(self.death, retryable=True)
        stream: Stream[Any] = Stream(next(self._numbers), self)
        self._streams[stream.number] = stream
        self._send((stream.number, job))
        return stream

    def abort(self, number: int) -> None:
        if self._streams.pop(number, None) is not None:
            self._send((number, None))

    async def close(self, reason: EngineUnavailable) -> None:
        """Kill the process and wait for its end; every stream that is open ends with `reason`."""
        self.death = self.death or reason.what
        self._fail_all(reason)
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(self.loaded, *self._readers, return_exceptions=True)

    def _send(self, command: JobCommand) -> None:
        """Send a command. All commands of one turn of the event loop go in one message, so that their jobs share their
        steps."""
        if not self._commands:
            asyncio.get_running_loop().call_soon(self._flush)
        self._commands.append(command)

    def _flush(self) -> None:
        commands, self._commands = self._commands, []
        if self.death is None:
            self._stdin.write(pack(commands))

    async def _read_first(self) -> Any:
        try:
            facts = await receive(self._stdout)
        except asyncio.IncompleteReadError:
            raise await self._died() from None
        if isinstance(facts, SundogError):
            self.death = facts.what
            raise facts
        return facts

    async def _read_results(self) -> None:
        await asyncio.wait([self.loaded])
        try:
            while self.death is None:
                self._deliver(await receive(self._stdout))
        except asyncio.IncompleteReadError:
            self._fail_all(await self._died())

    def _deliver(self, results: list[tuple[int, Any]]) -> None:
        for number, result in results:
            # An aborted job may have had a result on its way.
            if (stream := self._streams.get(number)) is not None:
                stream.results.put_nowait(result)
                if is_last(result):
                    del self._streams[number]
                    self.has_answered = True

    def _fail_all(self, error: EngineUnavailable) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.results.put_nowait(error)

    async def _died(self) -> EngineUnavailable:
        if self.death is not None:
            return EngineUnavailable(self.death)
        self.death = "the engine's process has died"
        exit_code = await self._process.wait()
        await asyncio.wait([self._readers[1]])
        last_line = self._stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"
        self.death = f"the engine's process {how}" + (f": {last_line}" if last_line else "")
        hint = "if memory ran out, let the engine use less" if exit_code == -signal.SIGKILL else None
        return EngineUnavailable(self.death, hint=hint, retryable=True)

    async def _read_stderr(self) -> None:
        """Keep the end of what it writes there; nobody else sees it."""
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(STDERR_BYTES):
            self._stderr = (self._stderr + data)[-STDERR_BYTES:]

"""The process of an engine, with a pipeline of bytes in it."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Chunk
from sundog.engines.embedded.engine_process import EngineProcess, Stream
from sundog.engines.embedded.step_loop import PipelineJob
from sundog.errors import BadResponse, ConfigError, EngineError, EngineUnavailable
from tests.engines.echo_pipeline import load_echo

Echo = EngineProcess[PipelineJob, Chunk]

LONG = list(b"x") * 1_000_000


async def rest_of(stream: Stream[Chunk]) -> list[Chunk]:
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].finish_reason is None:
        result = await stream.results.get()
        if isinstance(result, EngineError):
            raise result
        chunks.append(result)
    return chunks


async def ask(process: Echo, text: str, settings: Any = None) -> str:
    stream = await process.submit(PipelineJob(list(text.encode()), settings, len(text.encode())))
    return "".join(chunk.text for chunk in await rest_of(stream))


async def pid_of(process: Echo) -> int:
    return int(ast.literal_eval(await ask(process, "", "facts"))[0])


def run_with(use: Callable[[Echo], Awaitable[None]], how: str = "") -> None:
    async def main() -> None:
        process = EngineProcess(load_echo, how)
        await process.start()
        await use(process)
        await process.close()

    asyncio.run(asyncio.wait_for(main(), timeout=60))


def test_it_runs_on_another_event_loop_than_asyncios() -> None:
    uvloop = pytest.importorskip(
        "uvloop", reason="no dependency of sundog; a server in whose process a flow runs may have it"
    )

    async def main() -> str:
        process = EngineProcess(load_echo, "")
        await process.start()
        try:
            return await ask(process, "text")
        finally:
            await process.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(main(), timeout=60)) == "text"


def test_answers_come_back_and_the_process_ends_with_close() -> None:
    pids: list[int] = []

    async def use(process: Echo) -> None:
        assert await asyncio.gather(*(ask(process, f"text {i}") for i in range(20))) == [f"text {i}" for i in range(20)]
        pids.append(await pid_of(process))
        assert pids[0] != os.getpid()
        assert is_alive(pids[0])

    run_with(use)
    assert not is_alive(pids[0])


def test_jobs_larger_than_a_pipe() -> None:
    async def use(process: Echo) -> None:
        streams = [await process.submit(PipelineJob(LONG, None, len(LONG))) for _ in range(3)]
        assert [await stream.results.get() for stream in streams] == [Chunk("x")] * 3
        for stream in streams:
            stream.abort()
        assert await ask(process, "short") == "short"

    run_with(use)


def test_it_runs_where_the_parent_does_without_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def use(process: Echo) -> None:
        _, folder, script = ast.literal_eval(await ask(process, "", "facts"))
        assert (folder, script) == (str(tmp_path), None)

    run_with(use)


def test_signals_are_left_to_the_parent_and_prints_stay_inside(capfd: pytest.CaptureFixture[str]) -> None:
    async def use(process: Echo) -> None:
        assert await ask(process, "after two signals", "signal") == "after two signals"
        assert await ask(process, "after noise", "print") == "after noise"

    run_with(use)
    assert capfd.readouterr() == ("", "")


def test_a_refused_job_fails_alone() -> None:
    async def use(process: Echo) -> None:
        with pytest.raises(BadResponse, match="not this one"):
            await ask(process, "x", "refuse")
        assert await ask(process, "next") == "next"

    run_with(use)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kill", "the engine's process was killed by SIGKILL"),
        ("break", "the engine's process ended with code 1: RuntimeError: bad alloc"),
    ],
)
def test_a_death_fails_what_runs_and_the_next_job_has_another_process(how: str, message: str) -> None:
    async def use(process: Echo) -> None:
        first_pid = await pid_of(process)
        running = await process.submit(PipelineJob(LONG, None, len(LONG)))
        await running.results.get()
        for failing in (ask(process, "x", how), rest_of(running)):
            with pytest.raises(EngineUnavailable) as caught:
                await failing
            assert caught.value.what == message
            assert caught.value.retryable
        assert await asyncio.gather(*(ask(process, f"{i}") for i in range(4))) == ["0", "1", "2", "3"]
        assert await pid_of(process) != first_pid
        assert not is_alive(first_pid)

    run_with(use)


def test_a_process_that_never_answers_is_started_twice_only() -> None:
    async def use(process: Echo) -> None:
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="SIGKILL") as caught:
                await ask(process, "x")
            assert caught.value.retryable
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match=r"is gone: .*SIGKILL, the second time") as caught:
                await ask(process, "x")
            assert not caught.value.retryable

    run_with(use, "kill in the first step")


def test_close_fails_what_still_runs() -> None:
    async def use(process: Echo) -> None:
        stream = await process.submit(PipelineJob(LONG, None, len(LONG)))
        await stream.results.get()
        await process.close()
        with pytest.raises(EngineUnavailable, match="is closed"):
            await rest_of(stream)
        with pytest.raises(EngineUnavailable, match="is closed"):
            await ask(process, "late")

    run_with(use)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("no weights", ConfigError, "no weights\n  pull them"),
        ("bug", EngineUnavailable, "the engine's process ended with code 1: ValueError: a bug in loading"),
    ],
)
def test_what_loading_raises_start_raises(how: str, error: type[Exception], message: str) -> None:
    async def use() -> None:
        process = EngineProcess(load_echo, how)
        with pytest.raises(error) as caught:
            await process.start()
        assert str(caught.value) == message
        await process.close()

    asyncio.run(use())


def test_a_job_that_waits_for_another_process_fails_at_close() -> None:
    async def use(process: Echo) -> None:
        with pytest.raises(EngineUnavailable, match="SIGKILL"):
            await ask(process, "x", "kill")
        waiting = asyncio.ensure_future(ask(process, "waits"))
        await asyncio.sleep(0)
        await process.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await waiting

    run_with(use)


def test_a_cancelled_start_leaves_nothing_after_close() -> None:
    async def use() -> None:
        process = EngineProcess(load_echo, "")
        await process.spawn()
        start = asyncio.ensure_future(process.start())
        await asyncio.sleep(0)
        start.cancel()
        await asyncio.wait([start])
        await process.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await ask(process, "x")

    asyncio.run(use())


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    # No guard of `__main__`: the process must not run the script again.
    script = tmp_path / "script.py"
    script.write_text(
        """
import asyncio
from sundog.engines.embedded.engine_process import EngineProcess
from sundog.engines.embedded.step_loop import PipelineJob
from tests.engines.echo_pipeline import load_echo
from tests.engines.test_engine_process import pid_of

async def main():
    process = EngineProcess(load_echo, "")
    await process.start()
    print(await pid_of(process), flush=True)
    await process.submit(PipelineJob([1] * 1_000_000, None, 1_000_000))
    await asyncio.sleep(60)

asyncio.run(main())
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        while is_alive(pid):
            os.sched_yield()


def is_alive(pid: int) -> bool:
    """A dead process that nobody has waited for is dead."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

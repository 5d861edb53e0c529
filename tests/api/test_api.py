"""sundog in Python: build, explain, run, stream, and what comes back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sundog as sd
from sundog.errors import UserError
from tests.cli.flows import sundog, working_directory, write_checked, write_review


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with working_directory(tmp_path):
        yield tmp_path


class Counting:
    """A step's function that counts its calls, and may wait for a test or fail for one value."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Event()

    def double(self, value: int) -> int:
        self.seen.append(value)
        self.called.set()
        assert self.gate.wait(30)
        if value < 0:
            raise ValueError("negative")
        return value * 2


COUNTING = Counting()


def double(value: int) -> int:
    return COUNTING.double(value)


@pytest.fixture
def counting() -> Counting:
    COUNTING.__init__()  # type: ignore[misc]  # the step finds it by the module's name
    return COUNTING


def doubling(values: list[int]) -> sd.Flow:
    flow = sd.Flow("doubling")
    row = flow.input("rows", rows=[{"value": value} for value in values])
    doubled = flow.python("doubled", double, args={"value": row.value}, retries=0)
    flow.output(value=row.value, doubled=doubled)
    return flow


def test_a_flow_runs_and_gives_rows_errors_and_a_report(counting: Counting) -> None:
    result = doubling([3, -1, 5]).run()
    assert result.to_list() == [{"value": 3, "doubled": 6}, {"value": 5, "doubled": 10}]
    assert [row.row_index for row in result] == [0, 2]
    assert len(result) == 2
    ((error,), report) = result.errors, result.report
    assert (error["row"], error["node"], error["attempts"]) == (1, "doubled", 1)
    assert (report.num_done, report.num_failed, report.num_executed) == (2, 1, 2)
    assert repr(result).startswith(f"run {report.run_id}: finished\n")


def test_rows_come_as_arrow_with_types(counting: Counting) -> None:
    table = doubling([3, 5]).run().to_arrow()
    assert table.schema == pa.schema([("value", pa.int64()), ("doubled", pa.int64())])
    assert table.to_pylist() == [{"value": 3, "doubled": 6}, {"value": 5, "doubled": 10}]


def test_the_same_flow_over_the_same_rows_is_one_run(counting: Counting) -> None:
    first = doubling([1, 2]).run()
    assert doubling([1, 2]).run().to_list() == first.to_list()
    assert len(counting.seen) == 2
    assert doubling([1, 2]).run(fresh=True).report.run_id != first.report.run_id
    assert len(counting.seen) == 4
    doubling([1, 3]).run()
    assert len(counting.seen) == 6, "other rows are another run"


def test_options_are_those_of_the_command(counting: Counting, folder: Path) -> None:
    flow = doubling([1, 2, 3, 4])
    assert len(flow.run(limit=3)) == 3
    assert len(flow.run(sample=2, seed=5)) == 2
    flow.run(output="out.jsonl", state=folder / "kept", policy="fcfs", max_rows_in_flight=1)
    assert (folder / "kept" / "store.sqlite").is_file()
    assert json.loads((folder / "out.jsonl").read_text().splitlines()[3]) == {"value": 4, "doubled": 8}
    with pytest.raises(TypeError, match="unknown option 'outptu': did you mean 'output'"):
        flow.run(outptu="x")  # type: ignore[call-arg]  # the mistake is the test


def test_too_many_failures_raise(counting: Counting) -> None:
    with pytest.raises(sd.errors.RunStopped, match="more than the 0 allowed"):
        doubling([-1]).run(max_errors=0)


def test_run_works_inside_a_running_loop(counting: Counting) -> None:
    async def notebook() -> tuple[Any, Any]:
        flow = doubling([1, 2])
        return flow.run().to_list(), (await flow.arun(fresh=True)).to_list()

    from_thread, from_loop = asyncio.run(notebook())
    assert from_thread == from_loop == [{"value": 1, "doubled": 2}, {"value": 2, "doubled": 4}]


def test_a_stream_gives_each_row_when_it_is_done(counting: Counting) -> None:
    async def read() -> list[sd.Row]:
        return [row async for row in doubling([1, -1, 2]).stream()]

    rows = asyncio.run(read())
    assert sorted((row.row_index, row["doubled"]) for row in rows) == [(0, 2), (2, 4)]
    again = asyncio.run(read())
    assert [row.row_index for row in again] == [0, 2]
    assert len(counting.seen) == 3, "a finished run streams what it has"


def test_who_leaves_a_stream_keeps_what_was_finished(counting: Counting) -> None:
    flow = doubling(list(range(40)))

    async def read_one() -> None:
        async for _ in flow.stream(max_rows_in_flight=2):
            break

    asyncio.run(read_one())
    assert 1 <= len(counting.seen) < 40
    assert len(flow.run(max_rows_in_flight=2)) == 40
    assert sorted(counting.seen) == list(range(40)), "nothing ran twice"


def test_a_stream_does_not_run_ahead_of_its_reader(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.runtime.drive.MAX_UNREAD_ROWS", 4)

    async def read() -> int:
        stream = doubling(list(range(200))).stream(max_rows_in_flight=20)
        await anext(stream)
        for _ in range(1000):
            await asyncio.to_thread(int)
        num_ahead = len(counting.seen)
        await stream.aclose()
        return num_ahead

    assert asyncio.run(read()) <= 1 + 4 + 20


def test_an_open_stream_of_this_process_is_named(counting: Counting) -> None:
    async def read() -> None:
        flow = doubling([1, 2])
        stream = flow.stream()
        await anext(stream)
        with pytest.raises(UserError, match="this process is working on this run already") as caught:
            flow.run()
        assert "await stream.aclose()" in str(caught.value)
        await stream.aclose()
        assert len(flow.run()) == 2

    asyncio.run(read())


def test_a_cancelled_stream_stops_its_run(counting: Counting) -> None:
    counting.gate.clear()

    async def read() -> None:
        async for _ in doubling([1, 2]).stream():
            """Nothing comes."""

    async def cancel() -> None:
        reading = asyncio.ensure_future(read())
        await asyncio.to_thread(counting.called.wait, 30)
        reading.cancel()
        counting.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancel())
    assert len(doubling([1, 2]).run()) == 2, "the run is not locked any more"


def test_ctrl_c_drains_and_the_next_call_continues(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ThreadPoolExecutor):
        """Its future is interrupted once, as a user at a prompt would."""

        def submit(self, *arguments: Any, **options: Any) -> Any:
            future = super().submit(*arguments, **options)
            inner = future.result

            def result(timeout: float | None = None) -> Any:
                future.result = inner  # type: ignore[method-assign]  # only the first wait is interrupted
                assert counting.called.wait(30)
                threading.Timer(0.05, counting.gate.set).start()
                raise KeyboardInterrupt

            future.result = result  # type: ignore[method-assign]  # see above
            return future

    counting.gate.clear()
    flow = doubling(list(range(40)))
    with monkeypatch.context() as patch:
        patch.setattr("sundog.runtime.drive.ThreadPoolExecutor", Interrupted)
        with pytest.raises(sd.errors.RunStopped, match="interrupted"):
            flow.run()
    assert len(counting.seen) < 40
    assert len(flow.run()) == 40
    assert sorted(counting.seen) == list(range(40))


def test_ctrl_c_before_a_run_begins_stops_it_too(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    is_interrupted = threading.Event()

    class Interrupted(ThreadPoolExecutor):
        """This executor begins what is submitted after its future was interrupted once."""

        def submit(self, *submitted: Any, **options: Any) -> Any:
            function, *arguments = submitted

            def begin() -> Any:
                assert is_interrupted.wait(30)
                return function(*arguments, **options)

            future = super().submit(begin)
            inner = future.result

            def result(timeout: float | None = None) -> Any:
                future.result = wait  # type: ignore[method-assign]  # only the first wait is interrupted
                raise KeyboardInterrupt

            def wait(timeout: float | None = None) -> Any:
                is_interrupted.set()
                return inner(timeout)

            future.result = result  # type: ignore[method-assign]  # see above
            return future

    with monkeypatch.context() as patch:
        patch.setattr("sundog.runtime.drive.ThreadPoolExecutor", Interrupted)
        with pytest.raises(sd.errors.RunStopped, match="interrupted"):
            doubling([1, 2]).run()
    assert counting.seen == []


def test_a_flow_file_gives_the_run_of_the_command_line(folder: Path) -> None:
    write_review(folder)
    assert sundog(folder, "run", "flow.yaml", "--output", "out.csv").exit_code == 0
    result = sd.run("flow.yaml", output="out.csv")
    assert result.report.num_done == 12
    assert len(sundog(folder, "runs").stdout.splitlines()) == 2, "one run"
    assert sd.load("flow.yaml").explain() + "\n" == sundog(folder, "explain", "flow.yaml").stdout


def test_a_notebook_shows_plans_as_they_are(folder: Path) -> None:
    write_review(folder)
    shown = sd.explain("flow.yaml", limit=4)
    assert repr(shown) == str(shown)
    assert "rows: 4, " in shown


def test_inputs_come_from_elsewhere(folder: Path) -> None:
    write_checked(folder, 3, bad="")
    (folder / "two.jsonl").write_text('{"id": 7}\n')
    assert sd.run("flow.yaml", inputs={"rows": "two.jsonl"}).to_list() == [{"id": 7, "found": 14}]
    with pytest.raises(sd.errors.ConfigError, match="has no input 'row'"):
        sd.load("flow.yaml", inputs={"row": "two.jsonl"})


def test_the_public_names_are_there() -> None:
    assert all(hasattr(sd, name) for name in sd.__all__)
    assert sorted(sd.__all__) == sd.__all__
    assert dir(sd) == sd.__all__
    with pytest.raises(AttributeError, match="no attribute 'flow_'"):
        sd.flow_  # noqa: B018 - the access is the test


def test_import_sundog_loads_nothing_heavy() -> None:
    code = (
        "import sys, sundog; print(sorted({'pyarrow', 'duckdb', 'pydantic', 'jinja2', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""Readers of traces: what each form says, how it is known, and what a broken file is answered with."""

from __future__ import annotations

import gzip
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sundog.errors import InputError
from sundog.host.event_log import EventLog
from sundog.sched.events import ReplicaAdded, RequestArrived, RequestCancelled, RequestFinished
from sundog.sim.arrivals.formats import CSV_FORMATS, MOONCAKE
from sundog.sim.arrivals.trace import open_trace
from sundog.sim.arrivals.traced import TracedCall, TracedProgram

BURST_GPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,API log
118,GPT-4,417,276,693,Conversation log
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:17:03.9799600,4808,10\r
2023-11-16 18:17:04.0319600,3180,8\r
"""
MOONCAKE_LINES = """\
{"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [46, 47, 48]}
{"timestamp": 3500, "input_length": 512, "output_length": 7, "hash_ids": [46]}
"""
SWE_AGENT = """\
batch,instance_id,step,attempt,llm_start,input_tokens,output_tokens,tool_s
bs1,one,1,1,10.5,100,20,0.25
bs1,one,2,1,12.5,,,
bs1,one,3,1,13.5,150,30,1.5
bs1,two,1,1,9.5,200,40,
"""


def programs(folder: Path, text: str | bytes) -> list[TracedProgram]:
    path = folder / "trace"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(open_trace(path).programs())


def test_burst_gpt(tmp_path: Path) -> None:
    first, second = programs(tmp_path, BURST_GPT)
    assert first == TracedProgram((TracedCall(472, 18),), 0.0, 2)
    assert second == TracedProgram((TracedCall(417, 276),), 113.0, 4)
    trace = open_trace(tmp_path / "trace")
    list(trace.programs())
    assert (trace.form.name, trace.num_left_out) == ("BurstGPT", 1), "a request that failed has no answer"


def test_azure(tmp_path: Path) -> None:
    first, second = programs(tmp_path, AZURE)
    assert first == TracedProgram((TracedCall(4808, 10),), 0.0, 2)
    assert second.arrives_s == pytest.approx(0.052, abs=1e-6)
    assert second.calls == (TracedCall(3180, 8),)


def test_mooncake(tmp_path: Path) -> None:
    first, second = programs(tmp_path, MOONCAKE_LINES)
    assert first == TracedProgram((TracedCall(1100, 5, (46, 47)),), 0.0, 1), "the last block is not full"
    assert second == TracedProgram((TracedCall(512, 7, (46,)),), 0.5, 2)


def test_swe_agent(tmp_path: Path) -> None:
    one, two = programs(tmp_path, SWE_AGENT)
    assert one == TracedProgram((TracedCall(100, 20, (), 0.25), TracedCall(150, 30)), None, 2)
    assert two == TracedProgram((TracedCall(200, 40),), None, 5)
    with pytest.raises(InputError, match="tells no times") as caught:
        list(open_trace(tmp_path / "trace").times_s())
    assert "poisson" in str(caught.value.hint)


def test_an_event_log(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "fcfs", 8)
    for event in (
        ReplicaAdded(0.0, "e/0", "engine:e", 8),
        RequestArrived(2.0, "0/a", "engine:e", 0, num_prompt_tokens=70, prefix_key=(1, 2)),
        RequestArrived(2.5, "1/tool", "python:f", 1),
        RequestArrived(3.0, "1/a", "engine:e", 1, num_prompt_tokens=80),
        RequestArrived(3.5, "2/a", "engine:e", 2, num_prompt_tokens=90),
        RequestArrived(4.0, "3/a", "engine:e", 3, num_prompt_tokens=95),
        RequestFinished(5.0, "1/a", 81, 0, 9),
        RequestCancelled(5.5, "2/a"),
        RequestFinished(6.0, "0/a", 71, 64, 8),
    ):
        log.append(event)
    log.close()
    trace = open_trace(log.path)
    assert list(trace.programs()) == [
        TracedProgram((TracedCall(71, 8, (1, 2)),), 0.0, 3),
        TracedProgram((TracedCall(81, 9),), 1.0, 5),
    ]
    assert trace.num_left_out == 2, "one was cancelled, and one never ended"


@pytest.mark.parametrize(
    ("text", "what", "line", "hint"),
    [
        ("", "the trace is empty", None, "another file"),
        ("a,b\n1,2\n", "no known form of trace", 1, "Azure LLM: ContextTokens"),
        ('{"a": 1}\n', "no known form of trace", 1, "Mooncake"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request", None, "another file"),
        (AZURE + "2023-11-16 18:17:04.1,31x0,8\n", "'ContextTokens' is no number: '31x0'", 4, "mend the line"),
        (AZURE + "2023-11-16 18:17:04.1,31.5,8\n", "no number of tokens from 1 on: '31.5'", 4, "mend the line"),
        (AZURE + "2023-11-16 18:17:04.1,3180,0\n", "no number of tokens from 1 on: '0'", 4, "mend the line"),
        (AZURE + "yesterday,3180,8\n", "'TIMESTAMP' is no date with a time", 4, "mend the line"),
        (AZURE + "2023-11-16 18:17:04.1,3180\n", "2 values under 3 columns", 4, "mend the line"),
        (AZURE + "2023-11-16 18:17:03.9,3180,8\n", "0.13196 s before that of the line before", 4, "sort the trace"),
        (BURST_GPT + "nan,GPT-4,417,276,693,x\n", "'Timestamp' is no number from 0 on", 5, "mend the line"),
        (BURST_GPT + '120,"GPT-4,417,276,693,x\n', "the line is no CSV", 5, "mend the line"),
        (MOONCAKE_LINES + '{"timestamp": 4000\n', "the line is no JSON", 3, "mend the line"),
        (MOONCAKE_LINES + "[]\n", "the line is no JSON object", 3, "mend the line"),
        (MOONCAKE_LINES + '{"timestamp": 4000, "input_length": 5}\n', "'output_length' is no number: None", 3, "mend"),
        (
            MOONCAKE_LINES + '{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": ["a"]}\n',
            "'hash_ids' is no list of whole numbers",
            3,
            "mend",
        ),
        (SWE_AGENT + "bs1,two,0,1,9.5,200,40,\n", "step 0 of 'two' after its step 1", 6, "mend the line"),
    ],
)
def test_a_broken_trace_is_told_with_its_line(
    tmp_path: Path, text: str, what: str, line: int | None, hint: str
) -> None:
    with pytest.raises(InputError, match=what.replace("[", r"\[")) as caught:
        programs(tmp_path, text)
    path = tmp_path / "trace"
    assert caught.value.where == (str(path) if line is None else f"{path}:{line}")
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == 2


def test_a_trace_is_not_held_in_memory(tmp_path: Path) -> None:
    """The error stands at the end of the file, and what comes before it is there before that is read."""
    path = tmp_path / "trace"
    path.write_text(MOONCAKE_LINES + "broken")
    assert len(list(islice(open_trace(path).programs(), 2))) == 2


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_trace(tmp_path / "nothing")


def is_read_or_told(folder: Path, text: bytes) -> bool:
    """Return whether a file is read, or refused with its place and a remedy; any other error passes."""
    try:
        programs(folder, text)
    except InputError as error:
        return bool(error.where and error.hint)
    return True


def damaged(data: st.DataObject, good: bytes) -> bytes:
    """Draw a file with a few bytes that are not those of a good one."""
    text = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        if not text:
            break
    return bytes(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from([BURST_GPT, AZURE, MOONCAKE_LINES, SWE_AGENT]))
def test_a_damaged_trace_is_read_or_told(tmp_path: Path, data: st.DataObject, good: str) -> None:
    assert is_read_or_told(tmp_path, damaged(data, good.encode()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from([*CSV_FORMATS, MOONCAKE]),
    st.lists(st.lists(st.one_of(st.text(max_size=6), st.integers(), st.floats()), min_size=5, max_size=5), max_size=4),
)
def test_any_values_are_read_or_told(
    tmp_path: Path, data: st.DataObject, form: object, rows: list[list[object]]
) -> None:
    names = sorted(form.fields)  # type: ignore[attr-defined]  # one of the forms above
    if form is MOONCAKE:
        lines = [
            "{" + ", ".join(f'"{name}": {value}' for name, value in zip(names, row, strict=False)) + "}" for row in rows
        ]
    else:
        lines = [",".join(names), *(",".join(str(value) for value in row[: len(names)]) for row in rows)]
    assert is_read_or_told(tmp_path, "\n".join(lines).encode("utf-8", "surrogatepass"))


EVENTS = b"""\
["LogHeader", "fcfs", "2026-01-01", 8]
["RequestArrived", 2.0, "0/a", "engine:e", 0, 0, 70, 0, [1, 2]]
["RequestFinished", 5.0, "0/a", 81, 0, 9]
"""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_a_damaged_event_log_is_read_or_told(tmp_path: Path, data: st.DataObject, is_packed_before: bool) -> None:
    if is_packed_before:
        assert is_read_or_told(tmp_path, b"\x1f\x8b" + damaged(data, gzip.compress(EVENTS, mtime=0)[2:]))
    else:
        assert is_read_or_told(tmp_path, gzip.compress(damaged(data, EVENTS)))


REAL = os.environ.get("SUNDOG_TRACES")


@pytest.mark.skipif(not REAL, reason="SUNDOG_TRACES names no folder of real traces")
def test_real_traces_are_read() -> None:
    """Each .csv and .jsonl below the folder is a trace, to its last line."""
    paths = [path for ending in ("csv", "jsonl") for path in Path(str(REAL)).rglob(f"*.{ending}")]
    assert paths
    for path in paths:
        assert sum(1 for _ in open_trace(path).programs()) > 100, path

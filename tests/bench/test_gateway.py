"""The cost of a gateway: the server behind it answers each request as scripted, the load counts what is whole and what
is not, and the figures are those of hand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from gateway.arms import ENGINE, GATEWAYS
from gateway.delays import NUM_CHUNKS, Delays
from gateway.figures import DIRECT, Point, table, times_the_rate
from gateway.load import Measured, measured, percentile_ms, requests_of
from gateway.processes import cpu_s, pinned
from gateway.upstream import MODEL, Script, listen

from sundog.serve.engine_file import load_engines

LONG_S = 60.0
NONE = Delays(0.0, 0.0, 0.0)


def asked(script: Script, num_requests: int, *, is_streamed: bool) -> Measured:
    """Ask a scripted server in this process, four requests in flight, until there have been so many."""

    async def ask() -> Measured:
        server, port = await listen(script)
        async with server:
            url = f"http://127.0.0.1:{port}/v1"
            return await measured(
                url, MODEL, 4, LONG_S, script.delays, is_streamed=is_streamed, max_requests=num_requests
            )

    return asyncio.run(ask())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_each_request_is_asked_and_answered_once(is_streamed: bool) -> None:
    script = Script(NONE)
    found = asked(script, 10, is_streamed=is_streamed)
    assert (script.num_asked, found.num_answers, found.num_failures) == (10, 10, 0)


def test_a_stream_has_its_chunks_and_its_end() -> None:
    told = b"".join(Script(NONE).pieces)
    assert told.count(b"data: ") == NUM_CHUNKS + 3
    assert told.count(b'"content": "word "') == NUM_CHUNKS
    assert told.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_stream_without_its_end_and_a_refusal_are_failures() -> None:
    script = Script(NONE)
    script.pieces = [*script.pieces[:-1], b"0\r\n\r\n"]
    found = asked(script, 6, is_streamed=True)
    assert (found.num_answers, found.num_failures) == (0, 6)
    script.whole = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}"
    found = asked(script, 6, is_streamed=False)
    assert (found.num_answers, found.num_failures) == (0, 6)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_load_knows_the_delay_of_each_answer(is_streamed: bool) -> None:
    delays = Delays(0.04, 0.02, 0.0003, seed=3)
    script = Script(delays)
    first_s, whole_s = (delays.first_s, delays.first_s + NUM_CHUNKS * delays.gap_s) if is_streamed else (0.04, 0.04)
    requests = requests_of("host", "/v1/chat/completions", MODEL, 8, delays, is_streamed=is_streamed)
    parts = [script.part(one.data.partition(b"\r\n\r\n")[2]) for one in requests]
    assert len(set(parts)) == 8
    assert [one.first_s for one in requests] == pytest.approx([part * first_s for part in parts])
    assert [one.whole_s for one in requests] == pytest.approx([part * whole_s for part in parts])
    found = asked(script, 8, is_streamed=is_streamed)
    assert 0 < found.late_first_p50_ms < found.first_p50_ms
    assert 0 < found.late_p50_ms < found.p50_ms - 1000 * min(one.whole_s for one in requests)


def test_the_delays_of_two_seeds_are_in_another_order() -> None:
    assert Delays(1.0, 1.0, 1.0, 1).parts() != Delays(1.0, 1.0, 1.0, 2).parts()
    assert sorted(Delays(1.0, 1.0, 1.0, 1).parts()) == sorted(Delays(1.0, 1.0, 1.0, 2).parts())


def point(arm: str, p50_ms: float, num_answers: int = 10, gateway_cpu_s: float = 0.0) -> Point:
    times = {"p50_ms": p50_ms, "p95_ms": 2 * p50_ms, "first_p50_ms": p50_ms - 1, "first_p95_ms": p50_ms}
    times |= {"late_p50_ms": p50_ms - 8, "late_p95_ms": p50_ms - 4, "late_first_p50_ms": 2 * p50_ms}
    found = Measured(num_answers=num_answers, num_failures=1, num_unanswered=0, seconds=2.0, cpu_s=0.02, **times)
    return Point(arm, 64, False, found, gateway_cpu_s)


def test_figures_are_medians_and_what_is_added_to_asking_directly() -> None:
    points = [point(DIRECT, 20.0), point("one", 23.0, 20, 0.01), point(DIRECT, 21.0), point("one", 30.0, 20, 0.03)]
    points += [point(DIRECT, 90.0), point("one", 24.0, 20, 0.02), point("other", 40.0, 5)]
    direct, one, other = table(points)
    assert (direct["p50_ms"], direct["num_answers"], direct["num_failures"]) == (21.0, 30, 3)
    assert "added_p50_ms" not in direct
    assert (one["added_p50_ms"], one["added_p95_ms"], one["added_first_p50_ms"]) == (3.0, 3.0, 6.0)
    assert (one["cpu_ms_per_answer"], one["load_cpu_ms_per_answer"]) == (1.0, 1.0)
    assert other["answers_per_s"] == 2.5
    assert times_the_rate([direct, one, other], "one", "other") == {"whole_64": 4.0}
    assert times_the_rate([direct, one], "one", "other") == {}


def test_percentiles_are_of_the_times_themselves() -> None:
    assert [percentile_ms([0.004, 0.001, 0.002, 0.003], share) for share in (0.5, 0.95)] == [2.0, 4.0]
    assert percentile_ms([], 0.5) == 0.0


def test_the_gateways_are_told_of_the_server(tmp_path: Path) -> None:
    for name, gateway in GATEWAYS.items():
        one = gateway("http://127.0.0.1:1/v1", 2, tmp_path, "the command")
        assert one.command[:2] == ["the", "command"], name
        assert "2" in one.command
        assert (one.url, one.model) == ("http://127.0.0.1:2/v1", MODEL)
    (engine,) = load_engines(tmp_path / "engines.yaml")
    assert (engine.name, engine.kind, engine.options["base_url"]) == (ENGINE, "openai", "http://127.0.0.1:1/v1")


def test_processor_time_is_that_of_a_process_that_is_there() -> None:
    assert cpu_s(os.getpid()) > 0
    assert pinned(["a", "b"], "0") == ["taskset", "-c", "0", "a", "b"]
    assert pinned(["a"], "") == ["a"]

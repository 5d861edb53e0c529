"""The words of steps, written in Python and run: samples, usage, requirements, values and what turns know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd

ROWS: list[dict[str, Any]] = [{"n": 1}, {"n": 2}]


@pytest.fixture
def flow() -> sd.Flow:
    flow = sd.Flow("words")
    flow.engine("local", kind="null", output_tokens=7)
    flow.input("rows", rows=ROWS)
    return flow


def rows_of(flow: sd.Flow, folder: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in flow.run(state=folder)]


def test_samples_are_calls_of_their_own_and_equal_ones_of_several_rows_are_not_shared(
    flow: sd.Flow, tmp_path: Path
) -> None:
    flow.llm("guess", engine="local", prompt="Guess", temperature=1, seed=5, samples=3)
    flow.output(guesses="{{ guess | map(attribute='text') | list }}", won="{{ guess | map(attribute='text') | vote }}")
    result = flow.run(state=tmp_path)
    (guess,) = result.report.nodes
    assert (guess.num_asked, guess.num_executed) == (6, 6)
    first, second = (dict(row) for row in result)
    assert len(first["guesses"]) == len(set(first["guesses"])) == 3
    assert first == second
    assert first["won"] == first["guesses"][0]


def test_usage_is_read_beside_the_value_and_is_none_of_it(flow: sd.Flow, tmp_path: Path) -> None:
    flow.llm("one", engine="local", prompt="One {{ row.n }}")
    flow.llm("each", engine="local", prompt="Each {{ item }}", for_each="{{ range(row.n) | list }}")
    loop = flow.loop("turns", max_turns=2)
    loop.llm("last", engine="local", prompt="{{ loop.last['last'].usage.output_tokens }} {{ loop.turn }}")
    flow.output(
        used="{{ one.usage }}",
        whole="{{ one }}",
        sum="{{ each | map(attribute='usage.output_tokens') | sum }}",
        inner=loop.value["last"].usage.prompt_tokens,
    )
    first, second = rows_of(flow, tmp_path)
    assert first["used"] == {"prompt_tokens": first["used"]["prompt_tokens"], "output_tokens": 7}
    assert first["used"]["prompt_tokens"] > 0 < first["inner"]
    assert list(first["whole"]) == ["text"]
    assert (first["sum"], second["sum"]) == (7, 14)
    # The second run takes the answers, and what they took, from the first.
    assert rows_of(flow, tmp_path) == [first, second]


def test_a_tool_has_no_usage(flow: sd.Flow, tmp_path: Path) -> None:
    flow.python("loads", "json:loads", args={"s": '{"a": 1}'})
    flow.output(used="{{ loads.usage }}")
    result = flow.run(state=tmp_path)
    assert result.report.num_failed == 2


def test_a_requirement_fails_its_row_and_says_why(flow: sd.Flow, tmp_path: Path) -> None:
    flow.require("is_two", "{{ row.n == 2 }}", "{{ row.n }} is not two")
    flow.output(n="{{ row.n }}")
    result = flow.run(state=tmp_path)
    assert [dict(row) for row in result] == [{"n": 2}]
    (failed,) = result.errors
    assert (failed["node"], failed["cause"]) == ("is_two", "OperatorError: 1 is not two")


def test_a_loop_of_as_many_turns_as_a_row_says_sees_all_of_them(flow: sd.Flow, tmp_path: Path) -> None:
    loop = flow.loop("turns", max_turns="{{ row.n + 1 }}")
    loop.define("sum", "{{ loop.turn + (loop.history.sum | sum) }}")
    flow.define("last", loop.value.sum)
    flow.output(sum="{{ last }}", turns=loop.value.turns)
    assert rows_of(flow, tmp_path) == [{"sum": 3, "turns": 2}, {"sum": 7, "turns": 3}]

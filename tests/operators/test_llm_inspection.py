"""The findings of an LLM step before its first call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import EngineOutline, Message
from sundog.errors import BadResponse
from sundog.operators.base import Finding, Inspection
from sundog.operators.llm import LLMOperator, LLMSpec
from sundog.secrets import Secrets

CONTEXT_TOKENS = 100


def count(messages: Sequence[Message]) -> int:
    """A token a character, as a byte-level tokenizer at its worst."""
    if any("refused" in message.content for message in messages):
        raise BadResponse("no")
    return sum(len(message.content) for message in messages)


def outline(count_error: float = 0.0, max_context_tokens: int | None = CONTEXT_TOKENS) -> EngineOutline:
    return EngineOutline(count, count_error, None, None, None, max_context_tokens)


def inspect(
    prompts: Sequence[str], engine: EngineOutline | None, num_rows: int | None = None, **fields: Any
) -> list[Finding]:
    operator = LLMOperator(Path())
    spec = LLMSpec.model_validate({"engine": "local", "prompt": "{{ row }}", **fields})
    calls = {row: (operator.bind(spec, {"row": text}, {"local": {}}),) for row, text in enumerate(prompts)}
    num_rows = len(prompts) if num_rows is None else num_rows
    given = Inspection(calls, Secrets({}), 10.0, num_rows, len(prompts), engine)
    return list(asyncio.run(operator.inspect(spec, given)))


@pytest.mark.parametrize(("length", "is_found"), [(CONTEXT_TOKENS - 1, False), (CONTEXT_TOKENS, True), (138_000, True)])
def test_a_prompt_leaves_room_for_a_token_of_the_answer(length: int, *, is_found: bool) -> None:
    found = inspect(["x" * length, "short"], outline())
    assert len(found) == is_found
    if found:
        assert "1 of 2 rows cannot run" in found[0].what
        assert f"row 0: {length:,} tokens" in found[0].what
        assert not found[0].is_fatal


@pytest.mark.parametrize(("num_rows", "count_error", "is_fatal"), [(2, 0.0, True), (3, 0.0, False), (2, 0.25, False)])
def test_it_is_fatal_where_all_rows_are_too_long(num_rows: int, count_error: float, *, is_fatal: bool) -> None:
    (found,) = inspect(["x" * 200, "x" * 300], outline(count_error), num_rows)
    assert found.is_fatal is is_fatal
    assert ("of the first 2 rows" in found.what) is (num_rows == 3)
    assert ("about" in found.what) is bool(count_error)


def test_what_is_not_known_is_no_finding() -> None:
    assert inspect(["x" * 200], None, max_tokens=1, output={"a": "str"}) == []
    assert inspect(["x" * 200], outline(max_context_tokens=None)) == []
    assert inspect(["refused" * 50], outline()) == []


SMALLEST = len('{"unit":"none"}')


@pytest.mark.parametrize(
    ("max_tokens", "num_found", "is_fatal"),
    [
        (SMALLEST // 2, 1, True),
        (SMALLEST // 2 + 1, 1, False),
        (SMALLEST - 1, 1, False),
        (SMALLEST, 1, False),
        (SMALLEST + 4, 0, False),
    ],
)
def test_max_tokens_must_hold_the_smallest_answer(max_tokens: int, num_found: int, *, is_fatal: bool) -> None:
    found = inspect([], outline(), max_tokens=max_tokens, output={"unit": ["none", "thousand"]})
    assert len(found) == num_found
    assert any(one.is_fatal for one in found) is is_fatal
    if max_tokens == SMALLEST:
        assert "'unit' does not fit" in found[0].what
        assert '"thousand"' in found[0].what

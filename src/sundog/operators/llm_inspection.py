"""This module finds what is wrong with an LLM step before its first call: prompts that are too long, answers that
cannot be whole.

Owns these findings. Never starts an engine: it has the outline of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sundog.engines.base import EngineOutline, Message
from sundog.errors import CallError
from sundog.operators.base import BoundCall, Finding, Inspection

if TYPE_CHECKING:
    from sundog.ir.schemas.smallest_answer import SmallestAnswers

MAX_SHOWN_OPTIONS = 3
SURELY = 2
"""An answer may be spelled with fewer tokens than the tokenizer makes of its text, but hardly with half as many."""


def long_prompts(given: Inspection) -> Iterator[Finding]:
    """Yield a finding for rows whose prompt leaves no room for a token of the answer. Counting ends before the time of
    the inspection does, and what was not counted is told."""
    engine = given.engine
    if engine is None or engine.max_context_tokens is None:
        return
    doubtful = {row: [call for call in calls if _may_be_long(call, engine)] for row, calls in given.calls.items()}
    doubtful = {row: calls for row, calls in doubtful.items() if calls}
    longest = _count_in_time(doubtful, engine, given.timeout_s / 2)
    too_long = {row: num_tokens for row, num_tokens in longest.items() if num_tokens >= engine.max_context_tokens}
    if too_long:
        row, most = max(too_long.items(), key=lambda item: item[1])
        about = "about " if engine.count_error else ""
        yield Finding(
            f"{given.rows(len(too_long))} cannot run: the prompt is longer than the context of"
            f" {engine.max_context_tokens:,} tokens (row {row}: {about}{most:,} tokens)",
            "shorten the prompt, e.g. {{ text[:4000] }}, or drop these rows with a filter",
            is_fatal=len(too_long) == given.num_rows and not engine.count_error,
        )
    if len(longest) < len(doubtful):
        left = len(doubtful) - len(longest)
        yield Finding(f"{left:,} rows with long prompts were not counted in time, and may be too long")


def _count_in_time(calls: Mapping[int, Sequence[BoundCall]], engine: EngineOutline, timeout_s: float) -> dict[int, int]:
    """Return the tokens of each row's longest prompt, of as many rows as there is time for."""
    end_s = time.monotonic() + timeout_s
    found: dict[int, int] = {}
    for row, some in calls.items():
        if time.monotonic() > end_s:
            break
        found[row] = max(_num_tokens(call, engine) for call in some)
    return found


def small_limits(schema_text: str | None, max_tokens: int | None, engine: EngineOutline | None) -> Iterator[Finding]:
    """Yield a finding where `max_tokens` cannot hold the smallest answer of the schema, or an option of one of its
    enums."""
    if schema_text is None or max_tokens is None or engine is None:
        return
    from sundog.ir.schemas.smallest_answer import smallest_answers

    answers = smallest_answers(schema_text)
    needed = _answer_tokens(answers.text, engine)
    if needed > max_tokens:
        yield Finding(
            f"max_tokens is {max_tokens}, and the smallest answer of the output schema has {needed} tokens",
            f"raise max_tokens, ask for fewer fields, or shorten their names; the smallest answer is {answers.text}"
            if len(answers.text) <= 200
            else "raise max_tokens, ask for fewer fields, or shorten their names",
            is_fatal=needed * (1 - engine.count_error) >= SURELY * max_tokens,
        )
        return
    yield from _long_options(answers, max_tokens, engine)


def _long_options(answers: SmallestAnswers, max_tokens: int, engine: EngineOutline) -> Iterator[Finding]:
    by_field: dict[str, list[str]] = {}
    for (field, option), text in answers.by_option.items():
        if _answer_tokens(text, engine) > max_tokens:
            by_field.setdefault(field, []).append(option)
    for field, options in by_field.items():
        shown = ", ".join(options[:MAX_SHOWN_OPTIONS]) + (", ..." if len(options) > MAX_SHOWN_OPTIONS else "")
        yield Finding(
            f"an answer with one of these values of '{field}' does not fit into max_tokens {max_tokens}: {shown}",
            "raise max_tokens, or shorten the values",
        )


def _may_be_long(call: BoundCall, engine: EngineOutline) -> bool:
    """Return whether the text is worth a tokenizer's time: a token stands for a byte or more, and the chat template
    adds some tokens for each message."""
    num_bytes = sum(len(message.text.encode("utf-8", "replace")) + 64 for message in call.prompt)
    return engine.max_context_tokens is None or num_bytes >= engine.max_context_tokens


def _num_tokens(call: BoundCall, engine: EngineOutline) -> int:
    """Return the number of tokens; 0 of a prompt that the engine refuses for another reason, which its call will
    tell."""
    try:
        return engine.count(call.prompt)
    except CallError:
        return 0


def _answer_tokens(text: str, engine: EngineOutline) -> int:
    """Return the number of tokens that `text` alone adds to a conversation."""
    return _count(engine, text) - _count(engine, "")


def _count(engine: EngineOutline, text: str) -> int:
    return engine.count((Message("user", text),))

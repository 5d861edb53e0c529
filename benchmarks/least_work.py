"""The least that a batch of calls must compute: distinct prefix blocks, and the time these tokens take an engine.

Owns the two figures that every arm is compared with. Never runs a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sundog.cost.step_time import StepWork, call_work
from sundog.engines.base import Usage


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was made: its prompt's tokens, what it took, and the tokens of its answer, where a later prompt may
    begin with both."""

    prompt: Sequence[int]
    usage: Usage
    answer: Sequence[int] = ()


def distinct_prefix_minimum(made: Iterable[Made], block_tokens: int) -> tuple[int, StepWork]:
    """Prompt tokens to compute with a cache that forgets nothing and knows whole blocks, and the work of all calls.

    The last token of a prompt is always computed: it gives the first one of the answer. An order that reaches the
    minimum exists whenever each block is computed once, so the order of `made` does not matter, but for prompts that
    begin with an answer: they come after it.
    """
    known: set[int] = set()
    num_tokens, work = 0, StepWork()
    for call in made:
        num_cached = min(_num_known(call.prompt, block_tokens, known), len(call.prompt) - 1)
        # The last token of an answer is given, and not computed.
        _num_known((*call.prompt, *call.answer[:-1]), block_tokens, known)
        num_tokens += len(call.prompt) - num_cached
        work += call_work(len(call.prompt), num_cached, call.usage.num_output_tokens, is_shared=True)
    return num_tokens, work


def _num_known(prompt: Sequence[int], block_tokens: int, known: set[int]) -> int:
    key, num_known, is_known = 0, 0, True
    for end in range(block_tokens, len(prompt) + 1, block_tokens):
        key = hash((key, *prompt[end - block_tokens : end]))
        is_known = is_known and key in known
        num_known += block_tokens * is_known
        known.add(key)
    return num_known

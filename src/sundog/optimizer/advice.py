"""Advice: where prompts could share more if a value stood earlier in them.

Owns the moves that are tried and what each would save. Never moves anything: another prompt is another question, and
that is the user's to ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sundog.cost.row_statistics import RowFields, RowStatistics
from sundog.optimizer.prefix import fields_of, num_computed_tokens, prefix_tree
from sundog.optimizer.prompt_parts import FixedText, MessageParts, Part, StepPrompt, Value, merged
from sundog.tokens import CHARACTERS_PER_TOKEN

# Nothing is known of a result before the run; what is compared is how often it is computed.
RESULT_TOKENS = 256
# Engines share whole blocks only.
MIN_SHARED_TOKENS = 32
MIN_SAVED_SHARE = 0.05
# A move further to the front must save this much more than one that changes less.
FURTHER = 1.1
MAX_EFFORT = 50_000
"""Moves are tried while their efforts add up to less. One that is tried makes a tree of all parts, and in each prompt
that it changes as many sets of values to count as there are values, of half of them each."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice to put a value of the prompts of some steps to another place."""

    steps: tuple[str, ...]
    value: Value
    #: Words for that place.
    where: str
    #: Tokens that the move would save.
    num_saved_tokens: float
    #: Tokens that the pool's prompts compute now.
    num_tokens: float
    #: Prompts hold results, whose length is not known.
    assumes_results: bool

    def __str__(self) -> str:
        saved, now = self.num_saved_tokens, self.num_tokens
        told = f"about {_rounded(saved):,} of {_rounded(now):,} prompt tokens"
        if self.assumes_results:
            told = f"{saved / now:.0%} of the prompt tokens, if results have {RESULT_TOKENS}"
        return f"{' and '.join(self.steps)}: put {self.value.label} {self.where} to save {told}"


@dataclass(frozen=True, slots=True)
class _Move:
    """A value put to another place in the prompts of some steps."""

    value: Value
    steps: tuple[str, ...]
    where: str
    #: All prompts of the pool, after the move.
    prompts: tuple[StepPrompt, ...]


def fields_wanted(prompts: Sequence[StepPrompt]) -> frozenset[RowFields]:
    """Return the sets of values that `advise` wants counted; none where nothing can move."""
    moves = tried_moves(prompts)[0]
    trees = [prefix_tree(one) for one in (prompts, *(move.prompts for move in moves))] if moves else []
    alone = {frozenset({path}) for tree in trees for fields in fields_of(tree) for path in fields}
    return frozenset(alone.union(*(fields_of(tree) for tree in trees)))


def tried_moves(prompts: Sequence[StepPrompt]) -> tuple[tuple[_Move, ...], bool]:
    """Return the moves that are worth their effort, least change first, and whether others were left out."""
    values = {prompt: sum(isinstance(part, Value) for part in prompt.parts) for prompt in prompts}
    num_parts = sum(len(prompt.parts) for prompt in prompts)
    tried: list[_Move] = []
    effort = 0
    for move in _moves(prompts):
        effort += num_parts + sum(values[prompt] ** 2 for prompt in prompts if prompt.step in move.steps)
        if effort > MAX_EFFORT:
            return tuple(tried), True
        tried.append(move)
    return tuple(tried), False


def advise(prompts: Sequence[StepPrompt], statistics: RowStatistics) -> tuple[Advice, ...]:
    """Return what would save most first, at most one for each step. `prompts`: of one pool."""

    def num_tokens(part: Part) -> float:
        if isinstance(part, FixedText):
            return len(part.text) / CHARACTERS_PER_TOKEN
        known = None if part.path is None else statistics.num_characters[part.path]
        return RESULT_TOKENS if known is None else known / CHARACTERS_PER_TOKEN

    now = num_computed_tokens(prefix_tree(prompts), statistics, num_tokens)
    values = (part for prompt in prompts for part in prompt.parts if isinstance(part, Value))
    has_results = any(value.path is None and value.fields != frozenset() for value in values)
    best: dict[Value, tuple[float, _Move]] = {}
    for move in tried_moves(prompts)[0]:
        saved = now - num_computed_tokens(prefix_tree(move.prompts), statistics, num_tokens)
        before = best[move.value][0] * FURTHER if move.value in best else MIN_SAVED_SHARE * now
        if num_tokens(move.value) >= MIN_SHARED_TOKENS and saved >= before and saved > 0:
            best[move.value] = saved, move
    found: list[Advice] = []
    for saved, move in sorted(best.values(), key=lambda one: -one[0]):
        if not any(set(move.steps) & set(other.steps) for other in found):
            found.append(Advice(move.steps, move.value, move.where, saved, now, has_results))
    return tuple(found)


def _rounded(number: float) -> int:
    """Return a number rounded to two digits."""
    return int(float(f"{number:.1e}"))


def _moves(prompts: Sequence[StepPrompt]) -> Iterator[_Move]:
    """Yield the moves of each column and of each text that a tool finds, from the least change to the greatest. Answers
    have none: they are short as a rule."""
    values = (part for prompt in prompts for part in prompt.parts if isinstance(part, Value) and part.fields)
    movable = (value for value in values if not value.is_whole and (value.path is not None or value.is_lookup))
    for value in dict.fromkeys(movable):
        yield from _single_moves(prompts, value)
        for where, moved in _joint_moves(prompts, value):
            steps = tuple(new.step for old, new in zip(prompts, moved, strict=True) if new != old)
            if steps:
                yield _Move(value, steps, where, moved)


def _single_moves(prompts: Sequence[StepPrompt], value: Value) -> Iterator[_Move]:
    """Move it in one step, before the first other value of its own message."""
    for index, prompt in enumerate(prompts):
        for number, message in enumerate(prompt.messages):
            if value in message.parts:
                first = next(part for part in message.parts if isinstance(part, Value) and part.fields != frozenset())
                if first != value:
                    place = message.parts.index(first)
                    changed = _with_moved(prompt, value, number, place)
                    moved = (*prompts[:index], changed, *prompts[index + 1 :])
                    yield _Move(value, (prompt.step,), f"before {first.label}", moved)
                break


def _joint_moves(prompts: Sequence[StepPrompt], value: Value) -> Iterator[tuple[str, tuple[StepPrompt, ...]]]:
    """Move it in all steps that have it, to the front of its message or of the whole prompt."""
    holding = [_holding(prompt, value) for prompt in prompts]
    yield (
        "first in its message",
        tuple(
            prompt if number is None else _with_moved(prompt, value, number, 0)
            for prompt, number in zip(prompts, holding, strict=True)
        ),
    )
    if any(holding) and all(prompt.messages[0].role for prompt in prompts):
        yield (
            "at the beginning of the prompt",
            tuple(
                prompt if number is None else _with_moved(prompt, value, 0, 0)
                for prompt, number in zip(prompts, holding, strict=True)
            ),
        )


def _holding(prompt: StepPrompt, value: Value) -> int | None:
    """Return the number of the first message that has `value`."""
    return next((number for number, message in enumerate(prompt.messages) if value in message.parts), None)


def _with_moved(prompt: StepPrompt, value: Value, number: int, place: int) -> StepPrompt:
    """Return `prompt` with `value` at `place` in message `number`, and no longer where it stood first."""
    messages = list(prompt.messages)
    old = _holding(prompt, value)
    assert old is not None, f"{prompt.step} has no {value.label}"
    parts = list(messages[old].parts)
    parts.remove(value)
    messages[old] = MessageParts(messages[old].role, tuple(parts))
    parts = list(messages[number].parts)
    parts.insert(place, value)
    messages[number] = replace(messages[number], parts=merged(parts))
    return StepPrompt(prompt.step, tuple(messages))

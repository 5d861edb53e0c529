"""Steps of an engine read from the outside: from when the chunks of its running requests came.

Owns the attribution. It rests on what every continuously batching engine does: a running request gets one token in each
step, and the prompts of a step are taken in their order of arrival. What does not fit that is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sundog.cost.step_time import MeasuredStep, Work, decode_work, prefill_work


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One request as its sender saw it: when it was sent, and when each chunk came, at least one.

    `is_background`: sent before anything is measured; all steps until the last of these has begun are left out.
    """

    sent_s: float
    chunk_s: tuple[float, ...]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    is_background: bool


@dataclass(frozen=True, slots=True)
class _Life:
    """The steps that gave a request its first and its last token."""

    stream: StreamTimes
    first: int
    last: int

    def is_decoding(self, step: int) -> bool:
        return self.first < step <= self.last


def read_steps(streams: Sequence[StreamTimes], max_step_tokens: int | None) -> list[MeasuredStep]:
    """The steps in which something was decoded, in order. `max_step_tokens`: what the engine computes in one step;
    None when every prompt is computed in one."""
    # A last chunk may follow that brings no token but the usage.
    times = [stream.chunk_s[: max(1, stream.num_output_tokens)] for stream in streams]
    ends, members = _cluster(times)
    lives = [_Life(stream, *_bounds(number, members)) for number, stream in enumerate(streams)]
    if any(abs(life.last - life.first + 1 - life.stream.num_output_tokens) > 1 for life in lives):
        return []
    prefills, unclear = _prefills(lives, ends, max_step_tokens)
    begin = max((life.first for life in lives if life.stream.is_background), default=0) + 1
    found = []
    for step in range(begin, len(ends)):
        decoding = [life for life in lives if life.is_decoding(step)]
        if decoding and step not in unclear:
            work = sum((_decode(life, step) for life in decoding), prefills.get(step, Work()))
            found.append(MeasuredStep(work + Work(num_steps=1), ends[step] - ends[step - 1]))
    return found


def _decode(life: _Life, step: int) -> Work:
    return decode_work(1, life.stream.num_prompt_tokens + step - life.first - 1)


def _cluster(times: Sequence[Sequence[float]]) -> tuple[list[float], list[set[int]]]:
    """The end of each step and who got a token in it. A new step begins with the second chunk of one request, or after
    a pause of half a usual step."""
    longest = max(times, key=len)
    gaps = [late - early for early, late in pairwise(longest)]
    pause_s = median(gaps) / 2 if gaps else 0.0
    ends: list[float] = []
    members: list[set[int]] = []
    last_s = float("-inf")
    for time_s, number in sorted((time_s, number) for number, some in enumerate(times) for time_s in some):
        if not members or number in members[-1] or time_s - last_s > pause_s:
            ends.append(time_s)
            members.append(set())
        members[-1].add(number)
        last_s = time_s
    return ends, members


def _bounds(number: int, members: Sequence[set[int]]) -> tuple[int, int]:
    steps = [step for step, who in enumerate(members) if number in who]
    return steps[0], steps[-1]


def _prefills(
    lives: Sequence[_Life], ends: Sequence[float], max_step_tokens: int | None
) -> tuple[dict[int, Work], set[int]]:
    """The prompts' work by step, and the steps of which it is not clear. A prompt that does not fit into one step
    fills several, and ends in the one that gives its first token."""
    prefills: dict[int, Work] = {}
    unclear: set[int] = set()
    for life in lives:
        if life.stream.is_background:
            continue
        chunks = _chunks(life, lives, max_step_tokens)
        begin = life.first - len(chunks) + 1
        # A step that was half over when the request was sent cannot have begun with it.
        if begin < 1 or min(chunks) < 1 or life.stream.sent_s > (ends[begin - 1] + ends[begin]) / 2:
            unclear.update(range(begin, life.first + 1))
        context = life.stream.num_cached_tokens
        for step, chunk in enumerate(chunks, start=begin):
            if step in prefills and max_step_tokens is not None:
                unclear.add(step)
            prefills[step] = prefills.get(step, Work()) + prefill_work(chunk, context)
            context += chunk
    return prefills, unclear


def _chunks(life: _Life, lives: Sequence[_Life], max_step_tokens: int | None) -> list[int]:
    """Tokens of the prompt by step, the last in step `life.first`: it gets what the decoding requests leave."""
    left = life.stream.num_prompt_tokens - life.stream.num_cached_tokens
    if max_step_tokens is None:
        return [left]
    rooms: list[int] = []
    step = life.first
    while sum(rooms) < left and step >= 0:
        rooms.insert(0, max_step_tokens - sum(other.is_decoding(step) for other in lives))
        step -= 1
    return [*rooms[:-1], left - sum(rooms[:-1])]

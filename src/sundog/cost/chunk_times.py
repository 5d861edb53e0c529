"""Steps of an engine read from the outside: from when the chunks of its running requests came.

Owns the attribution. It rests on what every continuously batching engine does: a running request gets one token in each
step, and the prompts of a step are taken in their order of arrival. What does not fit that is left out, never guessed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sundog.cost.step_time import MeasuredStep, StepWork, decode_work, prefill_work

MAX_SHIFT = 3
# A share of the usual time of a step: what comes sooner after another was kept on its way.
BURST = 0.3


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One request as its sender saw it: when it was sent, and when each chunk came, at least one."""

    sent_s: float
    chunk_s: tuple[float, ...]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    #: It is sent before anything is measured; all steps until the last of these has begun are left out.
    is_background: bool

    @property
    def has_all_chunks(self) -> bool:
        """Return whether there was one for each token: an engine may keep back what is not yet text."""
        return len(self.chunk_s) >= self.num_output_tokens

    @property
    def token_s(self) -> tuple[float, ...]:
        """Leave out a last chunk that brings no token but the usage."""
        return self.chunk_s[: max(1, self.num_output_tokens)]


@dataclass(frozen=True, slots=True)
class _Life:
    """The steps that gave a request its first and its last token."""

    stream: StreamTimes
    first: int
    last: int

    def is_decoding(self, step: int) -> bool:
        return self.first < step <= self.last


def read_steps(streams: Sequence[StreamTimes], max_step_tokens: int | None) -> list[MeasuredStep]:
    """Return the steps in which something was decoded, in order. `max_step_tokens`: what the engine computes in one
    step; None when every prompt is computed in one."""
    whole = [stream for stream in streams if stream.is_background and stream.has_all_chunks]
    if not whole:
        return []
    marks = max(whole, key=lambda stream: stream.chunk_s[-1]).token_s
    lives = [_align(stream, marks) for stream in streams if stream.chunk_s[0] <= marks[-1]]
    ends = _step_ends(lives, len(marks))
    prefills, unclear = _prefills(lives, ends, max_step_tokens)
    shared = 1.0 - 1.0 / sum(life.stream.is_background for life in lives)
    begin = max(0, *(life.first for life in lives if life.stream.is_background)) + 1
    usual_s = median([late - early for early, late in pairwise(ends[begin - 1 :])] or [0.0])
    found: list[MeasuredStep] = []
    not_clear: set[int] = set()
    for step in range(begin, len(ends)):
        decoding = [life for life in lives if life.is_decoding(step)]
        work = sum((_decode(life, step, shared) for life in decoding), prefills.get(step, StepWork()))
        seen = MeasuredStep(work + StepWork(num_steps=1), ends[step] - ends[step - 1])
        if found and seen.elapsed_s < BURST * usual_s:
            # The step before was reported late, together with this one: only their sum was seen.
            found[-1] = MeasuredStep(found[-1].work + seen.work, found[-1].elapsed_s + seen.elapsed_s)
        else:
            found.append(seen)
        if not decoding or step in unclear:
            not_clear.add(len(found) - 1)
    return [step for number, step in enumerate(found) if number not in not_clear and step.elapsed_s > 0]


def _decode(life: _Life, step: int, shared: float) -> StepWork:
    """Return the work of decoding one token of a stream in `step`. The tokens that a background stream found cached are
    those that the others attend to as well: these streams are sent with a common text. `shared`: the share of it that
    is read after another has read it."""
    stream = life.stream
    num_shared = shared * stream.num_cached_tokens if stream.is_background else 0.0
    return decode_work(1, stream.num_prompt_tokens + step - life.first - 1, num_shared)


def _align(stream: StreamTimes, marks: Sequence[float]) -> _Life:
    """Return which steps, by their end times `marks`, gave the tokens of a stream: one each, so only the first is
    sought."""
    times = stream.token_s
    middle = len(times) // 2
    guess = bisect_left(marks, times[middle]) - middle

    def distance(first: int) -> float:
        pairs = [(time_s, first + i) for i, time_s in enumerate(times) if 0 <= first + i < len(marks)]
        return median(abs(time_s - marks[step]) for time_s, step in pairs) if pairs else float("inf")

    first = min(range(guess - MAX_SHIFT, guess + MAX_SHIFT + 1), key=distance)
    return _Life(stream, first, first + stream.num_output_tokens - 1)


def _step_ends(lives: Sequence[_Life], num_steps: int) -> list[float]:
    """Return when the first chunk of each step came."""
    ends = [float("inf")] * num_steps
    for life in lives:
        if life.stream.has_all_chunks:
            for step, time_s in enumerate(life.stream.token_s, start=life.first):
                if 0 <= step < num_steps:
                    ends[step] = min(ends[step], time_s)
    return ends


def _prefills(
    lives: Sequence[_Life], ends: Sequence[float], max_step_tokens: int | None
) -> tuple[dict[int, StepWork], set[int]]:
    """Return the prompts' work by step, and the steps of which it is not clear. A prompt that does not fit into one
    step fills several, and ends in the one that gives its first token."""
    prefills: dict[int, StepWork] = {}
    unclear: set[int] = set()
    for life in lives:
        if life.stream.is_background or life.first >= len(ends):
            continue
        chunks = _chunks(life, lives, max_step_tokens)
        begin = life.first - len(chunks) + 1
        next_s = ends[life.first + 1] if life.first + 1 < len(ends) else float("inf")
        if not ends[life.first] <= life.stream.chunk_s[0] < next_s:
            unclear.update(range(begin - 1, life.first + 2))
        # A step that was half over when the request was sent cannot have begun with it.
        if begin < 1 or min(chunks) < 1 or life.stream.sent_s > (ends[begin - 1] + ends[begin]) / 2:
            unclear.update(range(begin, life.first + 1))
        context = life.stream.num_cached_tokens
        for step, chunk in enumerate(chunks, start=begin):
            if step in prefills and max_step_tokens is not None:
                unclear.add(step)
            prefills[step] = prefills.get(step, StepWork()) + prefill_work(chunk, context)
            context += chunk
    return prefills, unclear


def _chunks(life: _Life, lives: Sequence[_Life], max_step_tokens: int | None) -> list[int]:
    """Return the tokens of the prompt by step, the last in step `life.first`: it gets what the decoding requests
    leave."""
    left = life.stream.num_prompt_tokens - life.stream.num_cached_tokens
    if max_step_tokens is None:
        return [left]
    rooms: list[int] = []
    step = life.first
    while sum(rooms) < left and step >= 0:
        rooms.insert(0, max_step_tokens - sum(other.is_decoding(step) for other in lives))
        step -= 1
    return [*rooms[:-1], left - sum(rooms[:-1])]

"""One replica of an engine as the step-time model sees it: who decodes, who is prefilled, how long equal steps take.

Owns the state of the replica. Steps of one kind are taken together, so that a batch costs as many operations as it
has requests, not tokens.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sundog.cost.profile import Profile
from sundog.cost.step_time import StepWork

_EPSILON_S = 1e-9


@dataclass(slots=True)
class _Request:
    number: int
    num_left: int  # of the prompt
    num_context: int  # cached or computed
    num_prompt_tokens: int
    num_output_tokens: int


class EngineModel:
    """This class models one replica with continuous batching: its steps, its prefix cache and its room.
    `max_tokens_in_flight`: prompt and output tokens of what runs; None for any number."""

    def __init__(
        self,
        pool: str,
        profile: Profile,
        *,
        max_concurrency: int,
        max_tokens_in_flight: int | None,
        block_tokens: int | None,
    ) -> None:
        self.pool = pool
        self.busy_s = 0.0
        self._profile = profile
        self._max_concurrency = max_concurrency
        self._max_tokens_in_flight = max_tokens_in_flight
        self._block_tokens = block_tokens
        self._warm: set[int] = set()
        self._prefilling: deque[_Request] = deque()
        # (step after which the last token is there, number, context tokens then); steps are counted from 0.
        self._decoding: list[tuple[int, int, int]] = []
        self._num_context = 0
        self._step = 0
        self._num_tokens = 0
        self._reserved: dict[int, int] = {}
        # The stretch of equal steps that runs now.
        self._begin_s = 0.0
        self._num_steps = 0
        self._step_s = 0.0
        self._num_prefill_tokens = 0  # of each of them

    @property
    def is_busy(self) -> bool:
        return bool(self._reserved)

    def has_room(self, num_reserved_tokens: int) -> bool:
        """Return whether a request may start; an idle replica takes anything."""
        limit = self._max_tokens_in_flight
        is_within = limit is None or self._num_tokens + num_reserved_tokens <= limit
        return not self._reserved or (len(self._reserved) < self._max_concurrency and is_within)

    def add(
        self,
        number: int,
        blocks: Sequence[int],
        num_prompt_tokens: int,
        num_output_tokens: int,
        num_reserved_tokens: int,
    ) -> None:
        """`num_reserved_tokens`: what the scheduler takes the request to hold at its end."""
        num_cached = 0
        if self._block_tokens is not None:
            for block in blocks:
                if block not in self._warm:
                    break
                num_cached += self._block_tokens
            self._warm.update(blocks)
        num_cached = min(num_cached, num_prompt_tokens - 1)
        request = _Request(number, num_prompt_tokens - num_cached, num_cached, num_prompt_tokens, num_output_tokens)
        self._prefilling.append(request)
        self._reserved[number] = num_reserved_tokens
        self._num_tokens += num_reserved_tokens

    def next_due_s(self, now_s: float) -> float | None:
        """Return when to look at this replica again: the end of its steps, or of the running one when a request has
        come."""
        if self._num_steps:
            if self._prefilling and not self._num_prefill_tokens:
                num_done = ceil((now_s - self._begin_s) / self._step_s - _EPSILON_S)
                self._num_steps = min(self._num_steps, max(1, num_done))
        elif self._reserved:
            self._begin_s = now_s
            self._take_steps()
        return self._begin_s + self._num_steps * self._step_s if self._num_steps else None

    def is_due(self, now_s: float) -> bool:
        """Return whether the running stretch ends now: an earlier plan for it may have been changed."""
        return bool(self._num_steps) and now_s >= self._begin_s + self._num_steps * self._step_s - _EPSILON_S

    def finish_steps(self) -> list[int]:
        """Return the numbers of the requests that the stretch has ended."""
        num_steps, self._num_steps = self._num_steps, 0
        self.busy_s += num_steps * self._step_s
        budget = self._num_prefill_tokens * num_steps
        self._num_context += num_steps * len(self._decoding)
        self._step += num_steps
        ended: list[int] = []
        while self._prefilling and budget > 0:
            request = self._prefilling[0]
            chunk = min(budget, request.num_left)
            request.num_left -= chunk
            request.num_context += chunk
            budget -= chunk
            if request.num_left:
                break
            self._prefilling.popleft()
            if request.num_output_tokens <= 1:
                ended.append(request.number)
            else:
                self._begin_decoding(request)
        while self._decoding and self._decoding[0][0] <= self._step:
            _, number, num_context = heapq.heappop(self._decoding)
            self._num_context -= num_context
            ended.append(number)
        for number in ended:
            self._num_tokens -= self._reserved.pop(number)
        return ended

    def _begin_decoding(self, request: _Request) -> None:
        num_to_come = request.num_output_tokens - 1
        num_context = request.num_prompt_tokens + num_to_come
        heapq.heappush(self._decoding, (self._step + num_to_come, request.number, num_context))
        self._num_context += request.num_prompt_tokens

    def _room(self) -> int:
        return max(1, self._profile.limits.max_step_tokens - len(self._decoding))

    def _take_steps(self) -> None:
        """Take the next steps that are alike."""
        num_decoding = len(self._decoding)
        num_steps = self._decoding[0][0] - self._step if self._decoding else 1 << 30
        room, pairs, num_prefill = self._room(), 0.0, 0
        if self._prefilling and self._prefilling[0].num_left > room:
            head = self._prefilling[0]
            num_steps = min(num_steps, head.num_left // room)
            num_prefill = room
            pairs = room * num_steps * head.num_context + (room * num_steps) ** 2 / 2
        elif self._prefilling:
            num_steps = 1
            for request in self._prefilling:
                chunk = min(request.num_left, room - num_prefill)
                num_prefill += chunk
                pairs += chunk * request.num_context + chunk**2 / 2
                if num_prefill == room:
                    break
        context = self._num_context * num_steps + num_decoding * num_steps * (num_steps - 1) / 2
        work = StepWork(num_steps, num_prefill * num_steps, num_decoding * num_steps, context, pairs)
        self._num_steps, self._num_prefill_tokens = num_steps, num_prefill
        self._step_s = self._profile.step_time.seconds(work) / num_steps

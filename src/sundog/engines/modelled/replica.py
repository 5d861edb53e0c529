"""One replica of a modelled engine: who decodes, who is prefilled, and how long steps take.

Owns the composition of steps, as a continuously batching engine makes them: every running request gets one token,
prompts fill what is left, first come first served. With a table of KV blocks a request waits for room, and the last
to come makes room for the others. Steps of one kind are taken together, so that a batch costs as many operations as
requests come and go, not as it has tokens. Time is handed in; the same calls at the same times give the same steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

from sundog.engines.modelled.block_table import BlockTable, Held

MAX_STEPS = 1 << 30


class StepSeconds(NamedTuple):
    """A step's time as a linear function of the work in it (`cost.step_time`), in seconds.

    >>> StepSeconds(0.01, 1e-3, 1e-3, 0.0, 0.0).of(num_prefill=20, num_decoding=5, context=0, shared=0, pairs=0)
    0.035
    """

    step_s: float
    prefill_token_s: float
    decode_token_s: float
    context_token_s: float
    attention_pair_s: float
    #: Context that several requests attend to; None where it costs as much as any other.
    shared_context_token_s: float | None = None

    def of(self, *, num_prefill: float, num_decoding: float, context: float, shared: float, pairs: float) -> float:
        """Return the seconds of a step. `context`: the tokens that the decoding requests attend to, summed over them,
        of which `shared` are several requests'; `pairs`: of the prefill chunks, chunk * context + chunk^2 / 2."""
        step_s, prefill_s, decode_s, context_s, pair_s, shared_s = self
        work_s = prefill_s * num_prefill + decode_s * num_decoding + context_s * context + pair_s * pairs
        return step_s + work_s + (0.0 if shared_s is None else (shared_s - context_s) * min(shared, context))

    def of_many(self, number: float) -> StepSeconds:
        """Return the seconds of a step in which each request stands for `number` of them."""
        step_s, prefill_s, decode_s, context_s, pair_s, shared_s = self
        many_s = prefill_s * number, decode_s * number, context_s * number, pair_s * number
        return StepSeconds(step_s, *many_s, None if shared_s is None else shared_s * number)


@dataclass(slots=True, eq=False)
class Job:
    """A request inside a replica; its counts change while it runs."""

    num_prompt_tokens: int
    #: At least 1.
    num_output_tokens: int
    #: A key for each full block of the prompt, that stands for all text up to its end.
    prompt_keys: Sequence[int] = ()
    #: Each of its tokens is told, so that no two of its steps are taken together.
    is_streamed: bool = False
    #: The KV blocks of its prompt come from elsewhere, with its first token; False once it was let in.
    has_kv: bool = False
    #: Output tokens that are there.
    num_done: int = 0
    #: Prompt tokens found in the cache when the request was last admitted.
    num_cached_tokens: int = 0
    #: The prompt, and after a preemption the answer so far.
    num_to_prefill: int = 0
    num_computed_tokens: int = 0
    held: Held | None = None

    @property
    def has_prefilled(self) -> bool:
        return self.num_computed_tokens >= self.num_to_prefill

    @property
    def has_ended(self) -> bool:
        return self.num_done >= self.num_output_tokens


@dataclass(slots=True)
class _Stretch:
    """Steps that are alike but for the growing context: step number i (from 0) takes `first_s + i * growth_s`."""

    begin_s: float
    num_steps: int
    first_s: float
    growth_s: float
    num_prefill: int

    def seconds(self, num_steps: int) -> float:
        return num_steps * self.first_s + self.growth_s * num_steps * (num_steps - 1) / 2

    def num_begun(self, elapsed_s: float) -> int:
        """Return how many steps have begun, at least 1, `elapsed_s` after the first one's begin."""
        linear = self.first_s - self.growth_s / 2
        if self.growth_s:
            passed = (sqrt(linear * linear + 2 * self.growth_s * elapsed_s) - linear) / self.growth_s
        else:
            passed = elapsed_s / self.first_s if self.first_s else self.num_steps
        return min(self.num_steps, max(1, ceil(passed - 1e-9)))


class ModelledReplica:
    """This class models the steps of one replica in time. `table`: the KV blocks; None where they are without end and
    no prefix is kept. Requests that wait inside are admitted in their order, without a limit on their number: the
    scheduler has one."""

    def __init__(self, seconds: StepSeconds, max_step_tokens: int, table: BlockTable | None = None) -> None:
        self.table = table
        self.num_steps = self.num_preemptions = 0
        #: Seconds in which a step ran.
        self.busy_s = 0.0
        #: How many times as long steps take that begin from now on, because others use the same processor.
        self.slowdown = 1.0
        self._seconds = seconds
        self._max_step_tokens = max_step_tokens
        self._waiting: deque[Job] = deque()
        #: In order of admission.
        self._running: list[Job] = []
        self._gone: list[Job] = []
        self._stretch: _Stretch | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All that has not ended."""
        return (*self._waiting, *self._running)

    @property
    def due_s(self) -> float | None:
        """Return when `pass_steps` is to be called: the end of the steps that run; None while nothing runs."""
        stretch = self._stretch
        return None if stretch is None else stretch.begin_s + stretch.seconds(stretch.num_steps)

    def add(self, job: Job, now_s: float) -> None:
        """Let a request in; it joins the step that begins now, or the next one. The table has room for its prompt and
        answer. One with KV from elsewhere has two output tokens at least."""
        job.num_to_prefill = job.num_prompt_tokens
        self._waiting.append(job)
        self.interrupt(now_s)

    def remove(self, job: Job, now_s: float) -> None:
        """Forget a request that has not ended."""
        if job in self._waiting:
            self._waiting.remove(job)
        else:
            self._gone.append(job)
            self.interrupt(now_s)

    def pass_steps(self, now_s: float) -> list[Job]:
        """Let the steps that run end now, at `due_s`, and begin the next ones. Return the requests that got their
        first or their last token in them, and those that are streamed with any; `num_done` tells which."""
        stretch = self._stretch
        assert stretch is not None, "no step runs"
        num_steps = stretch.num_steps
        self.num_steps += num_steps
        self.busy_s += stretch.seconds(num_steps)
        told: list[Job] = []
        left = stretch.num_prefill * num_steps
        for job in self._running:
            if job.has_prefilled:
                job.num_done += num_steps
                if job.held is not None and self.table is not None:
                    self.table.extend(job.held, num_steps)
                if job.has_ended or job.is_streamed:
                    told.append(job)
            elif left:
                chunk = min(left, job.num_to_prefill - job.num_computed_tokens)
                left -= chunk
                job.num_computed_tokens += chunk
                if job.has_prefilled:
                    job.num_done += 1
                    if job.num_done == 1 or job.has_ended or job.is_streamed:
                        told.append(job)
        self._running = [job for job in self._running if self._stays(job)]
        self._gone.clear()
        self._begin(now_s)
        return told

    def _stays(self, job: Job) -> bool:
        if job.has_ended or job in self._gone:
            self._free(job)
            return False
        return True

    def _free(self, job: Job) -> None:
        if self.table is not None and job.held is not None:
            self.table.free(job.held)
            job.held = None

    def interrupt(self, now_s: float) -> None:
        """Have the steps end with the one that runs, for what has come or gone."""
        stretch = self._stretch
        if stretch is None:
            self._begin(now_s)
        elif now_s <= stretch.begin_s:
            self._running = [job for job in self._running if self._stays(job)]
            self._gone.clear()
            self._begin(now_s)
        else:
            stretch.num_steps = stretch.num_begun(now_s - stretch.begin_s)

    def _begin(self, now_s: float) -> None:
        self._make_room()
        self._admit()
        if not self._running:
            self._stretch = None
            return
        decoding = [job for job in self._running if job.has_prefilled]
        room = max(1, self._max_step_tokens - len(decoding))
        num_steps = min(
            (1 if job.is_streamed else job.num_output_tokens - job.num_done for job in decoding), default=MAX_STEPS
        )
        num_prefill, pairs, num_steps = self._chunks(room, num_steps)
        num_steps = self._within_room(decoding, num_steps)
        context = sum(job.num_prompt_tokens + job.num_done for job in decoding)
        shared = 0 if self.table is None else self.table.num_shared_tokens
        counts = {"num_prefill": num_prefill, "num_decoding": len(decoding)}
        first_s = self._seconds.of(**counts, context=context, shared=shared, pairs=pairs)
        more_pairs = num_prefill * num_prefill if num_steps > 1 else 0
        growth_s = self._seconds.context_token_s * len(decoding) + self._seconds.attention_pair_s * more_pairs
        first_s, growth_s = first_s * self.slowdown, growth_s * self.slowdown
        self._stretch = _Stretch(now_s, num_steps, first_s, growth_s, num_prefill)

    def _chunks(self, room: int, num_steps: int) -> tuple[int, float, int]:
        """Return the prefill tokens of each step, the pairs of the first one, and for how many steps that is so."""
        num_prefill, pairs = 0, 0.0
        for job in self._running:
            num_left = job.num_to_prefill - job.num_computed_tokens
            if num_left <= 0:
                continue
            if not num_prefill and num_left > room:
                pairs = room * job.num_computed_tokens + room * room / 2
                return room, pairs, min(num_steps, num_left // room)
            chunk = min(num_left, room - num_prefill)
            num_prefill += chunk
            pairs += chunk * job.num_computed_tokens + chunk * chunk / 2
            num_steps = 1
            if num_prefill == room:
                break
        return num_prefill, pairs, num_steps

    def _within_room(self, decoding: Sequence[Job], num_steps: int) -> int:
        """Return for how many steps the table has room for the tokens of all that decode: at least one."""
        if self.table is None:
            return num_steps
        held = [job.held for job in decoding if job.held is not None]
        while num_steps > 1 and self.table.num_needed(held, num_steps) > self.table.num_available:
            num_steps = max(1, num_steps // 2)
        return num_steps

    def _make_room(self) -> None:
        """Make room for the next token of every decoding request, at the cost of those that came last."""
        while self._num_reserved() > (0 if self.table is None else self.table.num_available):
            job = self._running.pop()
            self.num_preemptions += 1
            self._free(job)
            job.num_to_prefill = job.num_prompt_tokens + job.num_done
            job.num_computed_tokens = 0
            self._waiting.appendleft(job)

    def _num_reserved(self) -> int:
        """Return the blocks that the next tokens of all that decode take."""
        if self.table is None:
            return 0
        held = [job.held for job in self._running if job.held is not None and job.has_prefilled]
        return self.table.num_needed(held, 1)

    def _admit(self) -> None:
        if not self._waiting:
            return
        num_reserved = self._num_reserved()
        while self._waiting:
            job = self._waiting[0]
            if self.table is not None:
                job.held = self.table.take(job.prompt_keys, job.num_to_prefill, num_reserved)
                if job.held is None:
                    return
                job.num_computed_tokens = job.held.num_cached_tokens
                job.num_cached_tokens = min(job.num_computed_tokens, job.num_prompt_tokens - 1)
            if job.has_kv:
                job.num_computed_tokens, job.num_done, job.has_kv = job.num_to_prefill, 1, False
            self._running.append(self._waiting.popleft())

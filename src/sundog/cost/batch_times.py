"""A step's time from the times of whole batches, as benchmarks publish them.

Owns the steps that such a batch takes, and whether a set of them can tell each coefficient. Never reads a file. A batch
is `num_requests` equal requests that are sent at once to an idle engine; times of a server that is kept at a number of
requests are those of the same batch again and again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from math import ceil, sqrt

from sundog.cost.profile import StepLimits
from sundog.cost.step_time import (
    FitError,
    MeasuredStep,
    StepTime,
    StepWork,
    call_work,
    decode_work,
    error_of,
    fit,
    fit_error_of,
    prefill_work,
)

MIN_OWN_SHARE = 0.02
"""The share of a part of the work that the other parts do not explain. Tables that tell all coefficients have 0.2 and
more, those that do not 0.003 and less."""

NUM_FOLDS = 5
COEFFICIENTS = tuple(one.name for one in fields(StepTime))
#: A table seldom has batches with shared context: that context then costs as much as any other.
SHARED = "shared_context_token_s"
REMEDIES = {
    "step_s": "batches of several sizes",
    "prefill_token_s": "the time to the first token, or batches with few output tokens",
    "decode_token_s": "batches of several sizes with short prompts",
    "context_token_s": "batches of one size with prompts of several lengths",
    "attention_pair_s": "the time to the first token of prompts of several lengths",
}


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """One batch and what was measured of it; at least one time is given."""

    num_requests: int
    num_prompt_tokens: float
    #: At least 1, for each request.
    num_output_tokens: float
    #: Until all have their first token.
    ttft_s: float | None = None
    #: For each further token.
    tpot_s: float | None = None
    #: Until all have ended.
    latency_s: float | None = None

    @property
    def shape(self) -> tuple[float, ...]:
        return self.num_requests, self.num_prompt_tokens, self.num_output_tokens

    def steps(self, max_step_tokens: int) -> Iterator[MeasuredStep]:
        """Return the work of each time that is given."""
        number = self.num_requests
        prefill = prefill_work(self.num_prompt_tokens) * number
        num_prefill_steps = ceil(number * self.num_prompt_tokens / max_step_tokens)
        num_further = self.num_output_tokens - 1
        if self.ttft_s is not None:
            yield MeasuredStep(prefill + StepWork(num_steps=num_prefill_steps), self.ttft_s)
        if self.tpot_s is not None and num_further > 0:
            decode = decode_work(num_further, self.num_prompt_tokens) * (number / num_further)
            yield MeasuredStep(decode + StepWork(num_steps=1), self.tpot_s)
        if self.latency_s is not None:
            work = call_work(self.num_prompt_tokens, 0, self.num_output_tokens) * number
            yield MeasuredStep(work + StepWork(num_steps=num_prefill_steps + num_further), self.latency_s)


@dataclass(frozen=True, slots=True)
class BatchFit:
    """The step time that fits batches, with its errors; `held_out`: of each fifth of the shapes by a fit to
    the others."""

    step_time: StepTime
    limits: StepLimits
    fitted: FitError
    held_out: FitError


def undetermined(steps: Sequence[MeasuredStep], assumed_zero: Collection[str] = ()) -> tuple[str, ...]:
    """Return the coefficients that `steps` cannot tell, from others or at all; but for those assumed to be 0, and for
    shared context where there is none."""
    rows = [[part / step.elapsed_s for part in astuple(step.work)] for step in steps]
    columns = dict(zip(COEFFICIENTS, zip(*rows, strict=True), strict=True))
    asked = [name for name in COEFFICIENTS if name not in assumed_zero and (name != SHARED or any(columns[name]))]
    return tuple(
        name for name in asked if not _is_told(columns[name], [columns[other] for other in asked if other != name])
    )


def fit_batches(
    batches: Sequence[BatchTimes],
    max_step_tokens: int,
    max_decode_requests: int | None = None,
    assumed_zero: Collection[str] = (),
) -> BatchFit:
    """Return the fit to `batches`, which tell all coefficients (`undetermined`) but those `assumed_zero`.
    `max_decode_requests`: None takes the largest batch."""
    shapes: dict[tuple[float, ...], list[MeasuredStep]] = {}
    for batch in batches:
        found = (_without(step, assumed_zero) for step in batch.steps(max_step_tokens))
        shapes.setdefault(batch.shape, []).extend(found)
    steps = [step for part in shapes.values() for step in part]
    model = _fit(steps)
    largest = max(batch.num_requests for batch in batches)
    limits = StepLimits(max_step_tokens, max_decode_requests or largest)
    return BatchFit(model, limits, fit_error_of(model, steps), error_of(_held_out_ratios([*shapes.values()])))


def _held_out_ratios(parts: Sequence[Sequence[MeasuredStep]]) -> list[float]:
    """Return foretold over seen seconds of each fifth of the shapes, by a fit to the others: repetitions of a shape
    resemble each other. A fifth that alone told a coefficient is foretold badly, as it should be."""
    ratios: list[float] = []
    for fold in range(min(NUM_FOLDS, len(parts))):
        others = [step for number, part in enumerate(parts) if number % NUM_FOLDS != fold for step in part]
        held = [step for part in parts[fold::NUM_FOLDS] for step in part]
        if others:
            model = _fit(others)
            ratios += [model.seconds(step.work) / step.elapsed_s for step in held]
    return ratios or [1.0]


def _fit(steps: Sequence[MeasuredStep]) -> StepTime:
    model = fit(steps)
    if any(step.work.num_shared_context_tokens for step in steps):
        return model
    return replace(model, shared_context_token_s=model.context_token_s)


def _without(step: MeasuredStep, assumed_zero: Collection[str]) -> MeasuredStep:
    """Return the step without the work whose seconds are assumed to be 0."""
    kept = (0.0 if name in assumed_zero else part for name, part in zip(COEFFICIENTS, astuple(step.work), strict=True))
    return replace(step, work=StepWork(*kept))


def _is_told(column: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return whether enough of `column` is no sum of multiples of `others` (Gram and Schmidt, twice for precision)."""
    basis: list[list[float]] = []
    for one in others:
        rest, length = _rest(one, basis), _length(one)
        if _length(rest) > 1e-9 * length:
            basis.append([value / _length(rest) for value in rest])
    return _length(_rest(column, basis)) > MIN_OWN_SHARE * _length(column)


def _rest(column: Sequence[float], basis: Sequence[Sequence[float]]) -> list[float]:
    rest = list(column)
    for one in (*basis, *basis):
        along = sum(a * b for a, b in zip(rest, one, strict=True))
        rest = [a - along * b for a, b in zip(rest, one, strict=True)]
    return rest


def _length(column: Sequence[float]) -> float:
    return sqrt(sum(value * value for value in column))

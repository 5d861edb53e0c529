"""The time of an engine's step as a linear function of the work in it, and the fit of that function.

Owns the work of a step, the six coefficients and their error. Never measures: measured.calibrate does.

    seconds = c0 + c1*prefill tokens + c2*decode requests + c3*context tokens + c4*attention pairs
                 + c5*shared context tokens

Context that several requests of a step attend to is read from memory once and from the processor's cache after that:
on two CPU cores it took a quarter of the time of other context, and with six requests to a document half of all.
The fit minimises relative errors under non-negative coefficients. The minimum over all sets of coefficients that are
not zero is exact, and with six of them there are 63 sets: no solver is needed. Outliers count less (Huber's weights).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from statistics import fmean, median

NUM_REWEIGHTINGS = 10
# Huber's constant: 95 % as efficient as least squares where the errors are normal.
HUBER = 1.345
NORMAL_MAD = 1.4826
MIN_PIVOT = 1e-9
MAX_SLOWDOWN = 3.0

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class StepWork:
    """The work that one step computes, or the sum of several: the model is linear."""

    num_steps: float = 0.0
    num_prefill_tokens: float = 0.0
    num_decode_tokens: float = 0.0
    #: Tokens that the decoding requests attend to, summed over them, but for the shared ones.
    num_context_tokens: float = 0.0
    #: The sum over prefill chunks of chunk * context before it + chunk^2 / 2.
    num_attention_pairs: float = 0.0
    #: Tokens that another request has read in the same step: of a text that n attend to, n - 1 times its tokens.
    num_shared_context_tokens: float = 0.0

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> StepWork:
        return StepWork(*(factor * one for one in astuple(self)))

    @property
    def is_mixed(self) -> bool:
        return self.num_prefill_tokens > 0 and self.num_decode_tokens > 0


def prefill_work(num_tokens: float, num_context_tokens: float = 0.0) -> StepWork:
    """Return the work of a chunk of `num_tokens` after `num_context_tokens` that are computed or cached; without the
    step itself."""
    pairs = num_tokens * num_context_tokens + num_tokens**2 / 2
    return StepWork(num_prefill_tokens=num_tokens, num_attention_pairs=pairs)


def decode_work(num_tokens: float, num_prompt_tokens: float, num_shared_tokens: float = 0.0) -> StepWork:
    """Return the work of the output tokens that are fed back one by one after a prompt, of which `num_shared_tokens`
    are other requests' too; without the steps themselves."""
    context = num_tokens * (num_prompt_tokens - num_shared_tokens) + num_tokens * (num_tokens + 1) / 2
    return StepWork(
        num_decode_tokens=num_tokens,
        num_context_tokens=context,
        num_shared_context_tokens=num_tokens * num_shared_tokens,
    )


def call_work(
    num_prompt_tokens: float, num_cached_tokens: float, num_output_tokens: float, *, is_shared: bool = False
) -> StepWork:
    """Return the work of a whole call, without steps. Its first output token comes from the prefill, its last is not
    fed back. `is_shared`: those who have the cached tokens in common decode at the same time."""
    prefill = prefill_work(num_prompt_tokens - num_cached_tokens, num_cached_tokens)
    num_shared_tokens = num_cached_tokens if is_shared else 0.0
    return prefill + decode_work(max(0.0, num_output_tokens - 1), num_prompt_tokens, num_shared_tokens)


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds for each part of `StepWork`, in its order; none is negative."""

    step_s: float
    prefill_token_s: float
    decode_token_s: float
    context_token_s: float
    attention_pair_s: float
    shared_context_token_s: float

    def seconds(self, work: StepWork) -> float:
        return _dot(astuple(self), astuple(work))


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A step that was seen."""

    work: StepWork
    #: Positive.
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class FitError:
    """Relative errors of the model over measured steps, as fractions."""

    #: The number of measured steps.
    num_steps: int
    #: The mean.
    mape: float
    median: float
    p90: float


def fit(steps: Sequence[MeasuredStep]) -> StepTime:
    """Return the coefficients with the least relative errors over `steps` (at least one). A part of the work that never
    occurs, or cannot be told from others, gets the coefficient 0."""
    assert steps, "nothing to fit"
    rows = [[part / step.elapsed_s for part in astuple(step.work)] for step in steps]
    weights = [1.0] * len(rows)
    coefficients = _least_squares(rows, weights)
    for _ in range(NUM_REWEIGHTINGS):
        errors = [abs(1.0 - _dot(row, coefficients)) for row in rows]
        bound = HUBER * NORMAL_MAD * median(errors)
        weights = [1.0 if error <= bound else bound / error for error in errors]
        coefficients = _least_squares(rows, weights)
    return StepTime(*coefficients)


def with_total(model: StepTime, steps: Sequence[MeasuredStep]) -> StepTime:
    """Return the model, scaled so that all `steps` (at least one) together take what they took.

    A fit to relative errors is near the usual step, and slow steps are further off than fast ones: on two CPU cores
    their sum was 12 % more than the fit said. A run takes the sum. A step counts as MAX_SLOWDOWN times what the model
    says at most: the machine was not there for the rest.
    """
    foretold_s = [model.seconds(step.work) for step in steps]
    took_s = [min(step.elapsed_s, MAX_SLOWDOWN * said_s) for step, said_s in zip(steps, foretold_s, strict=True)]
    scale = sum(took_s) / sum(foretold_s)
    return StepTime(*(scale * coefficient for coefficient in astuple(model)))


def fit_error_of(model: StepTime, steps: Sequence[MeasuredStep]) -> FitError:
    """Return how far the model is from `steps` (at least one)."""
    return error_of([model.seconds(step.work) / step.elapsed_s for step in steps])


def error_of(ratios: Sequence[float]) -> FitError:
    """Return how far foretold over seen seconds (at least one) are from 1."""
    errors = sorted(abs(ratio - 1.0) for ratio in ratios)
    return FitError(len(errors), fmean(errors), median(errors), errors[int(0.9 * (len(errors) - 1))])


def _least_squares(rows: Sequence[Vector], weights: Vector) -> list[float]:
    """Return the non-negative x that minimises sum(weight * (1 - row . x)^2)."""
    columns = list(zip(*rows, strict=True))
    scales = [sum(w * a * a for w, a in zip(weights, column, strict=True)) ** 0.5 for column in columns]
    used = [j for j, scale in enumerate(scales) if scale > 0]
    gram = {(i, j): _weighted(columns[i], columns[j], weights) / (scales[i] * scales[j]) for i in used for j in used}
    target = {j: _dot(weights, columns[j]) / scales[j] for j in used}
    best, best_gain = [0.0] * len(columns), 0.0
    for chosen in _subsets(used):
        found = _solve([[gram[i, j] for j in chosen] for i in chosen], [target[i] for i in chosen])
        if found is None or min(found) < 0:
            continue
        # The decrease of the sum of squares against x = 0.
        gain = _dot(found, [target[i] for i in chosen])
        if gain > best_gain:
            best_gain, best = gain, [0.0] * len(columns)
            for j, value in zip(chosen, found, strict=True):
                best[j] = value / scales[j]
    return best


def _subsets(items: Sequence[int]) -> Iterable[tuple[int, ...]]:
    for size in range(1, len(items) + 1):
        yield from combinations(items, size)


def _solve(matrix: list[list[float]], target: list[float]) -> list[float] | None:
    """Solve by Gauss with pivoting; None where the matrix is singular. Its diagonal is 1."""
    rows = [[*row, value] for row, value in zip(matrix, target, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        if abs(rows[pivot][column]) < MIN_PIVOT:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(size):
            if i != column:
                factor = rows[i][column] / rows[column][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def _dot(one: Vector, two: Vector) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def _weighted(one: Vector, two: Vector, weights: Vector) -> float:
    return sum(w * a * b for w, a, b in zip(weights, one, two, strict=True))

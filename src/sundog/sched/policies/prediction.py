"""The needs of a request that are still to come, from what calls of its step needed before. Pure.

Owns the estimates. Never decides.
"""

from __future__ import annotations

from bisect import bisect_right
from zlib import crc32

from sundog.sched.books.samples import RecentSamples
from sundog.sched.views import RequestView, SchedView

MIN_SAMPLES = 20
"""While there are fewer samples, the bound stands in for those that are missing: a start on the safe side."""
MEDIAN = 0.5


def quantile_above(samples: RecentSamples, num_so_far: float, bound: float, quantile: float) -> float:
    """Return the `quantile` of the samples above `num_so_far`, between neighbours in proportion; never above `bound`,
    which counts as one sample more. With none above, as if everything from here to the bound were as likely."""
    ordered = samples.ordered
    start = bisect_right(ordered, num_so_far)
    num_above = len(ordered) - start
    if num_above == 0:
        return num_so_far + quantile * max(0.0, bound - num_so_far)
    position = quantile * (num_above + max(1, MIN_SAMPLES - len(ordered)) - 1)
    below = int(position)
    low = ordered[start + below] if below < num_above else bound
    high = ordered[start + below + 1] if below + 1 < num_above else bound
    return min(bound, low + (position - below) * (high - low))


def remaining_output_tokens(request: RequestView, sched: SchedView, quantile: float) -> float:
    """Return the output tokens still to come: by the answers of its step and model that were longer than its own is
    now, where there are any, else as told. One at least, as it has not ended."""
    samples = sched.output_lengths.get((request.node, request.model))
    if samples is None:
        return request.num_decode_tokens
    length = quantile_above(samples, request.num_output_tokens, request.max_output_tokens, quantile)
    return max(1.0, length - request.num_output_tokens)


def remaining_s(request: RequestView, sched: SchedView) -> float:
    """Return the seconds until its workflow could end if it ran from now on: its own at the measured speed, then the
    longest path after it."""
    own_s = request.num_prefill_tokens * sched.prefill_token_s
    own_s += remaining_output_tokens(request, sched, MEDIAN) * sched.decode_token_s
    return own_s + request.facts.successor_path_s


def draw(request_id: str, number: int) -> float:
    """Return a number in [0, 1), as if at random, and the same whenever it is asked for."""
    return crc32(f"{request_id}/{number}".encode()) / 2**32

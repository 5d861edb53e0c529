"""The throughput that no engine passes on a device: its peak arithmetic over the arithmetic of a token.

Owns the formula of NanoFlow (Zhu et al., arXiv 2408.12757, section 3): serving is bound by compute, each token that is
computed, of a prompt or of an answer, costs two operations for each parameter that takes part, and attention, memory
and the network are left out; so the optimum is peak operations per second / (2 * parameters) tokens a second.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compute:
    """The arithmetic of one replica, all its devices together."""

    #: Dense operations per second in the precision that is served, as the maker states them or as they were measured.
    peak_flops: float
    #: Parameters that take part in a token: all of a dense model, the active ones of a mixture of experts.
    num_parameters: float
    #: The name of who says so.
    source: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.peak_flops < float("inf") and 0 < self.num_parameters < float("inf")):
            raise ValueError("operations and parameters are finite and more than 0")

    @property
    def optimal_tokens_per_s(self) -> float:
        """Return the tokens, of prompts and answers together, that a replica computes in a second at best.

        >>> Compute(peak_flops=312e12, num_parameters=8e9).optimal_tokens_per_s
        19500.0
        """
        return self.peak_flops / (2 * self.num_parameters)


def share_of_optimum(compute: Compute, num_computed_tokens: float, replica_s: float) -> float:
    """Return which part of the optimum was reached: 1 is the bound. `num_computed_tokens`: of prompts without what was
    cached, and of answers; `replica_s`: seconds, summed over the replicas that were up."""
    assert replica_s > 0, "nothing was up"
    return num_computed_tokens / replica_s / compute.optimal_tokens_per_s

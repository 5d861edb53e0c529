"""Service by tenant, as fair shares count it.

Owns virtual token counters; the host charges them and ranks read them. Never decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

OUTPUT_TOKEN_WEIGHT = 2.0


class VirtualTokens(Mapping[str, float]):
    """Virtual token counters (VTC, Sheng et al., OSDI 2024): tokens computed for a tenant, an output token as two, over
    the weight of the request. A tenant that comes back is lifted to the least of those that are there: idle time saves
    up nothing. One who left is forgotten when its counter no longer matters.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        self._num_requests: Counter[str] = Counter()

    def __getitem__(self, tenant: str) -> float:
        return self._tokens[tenant]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def arrive(self, tenant: str) -> None:
        """A request of it arrived."""
        if self._num_requests[tenant] == 0:
            self._tokens[tenant] = max(self._tokens.get(tenant, 0.0), self._least())
        self._num_requests[tenant] += 1

    def charge(self, tenant: str, num_prompt_tokens: int, num_output_tokens: int, weight: float = 1.0) -> None:
        """Count so many tokens that were computed for a request of it that is here. `weight`: above 0."""
        num_tokens = num_prompt_tokens + OUTPUT_TOKEN_WEIGHT * num_output_tokens
        self._tokens[tenant] += num_tokens / weight

    def leave(self, tenant: str) -> None:
        """A request of it ended, whichever way."""
        self._num_requests[tenant] -= 1
        assert self._num_requests[tenant] >= 0, f"a request of tenant '{tenant}' ended that never arrived"
        if self._num_requests[tenant] == 0:
            del self._num_requests[tenant]
            self._forget()

    def _least(self) -> float:
        """Return the least of the tenants that are there; of an empty house, the most that anybody had."""
        if self._num_requests:
            return min((self._tokens[one] for one in self._num_requests if self._num_requests[one]), default=0.0)
        return max(self._tokens.values(), default=0.0)

    def _forget(self) -> None:
        """Drop the tenants who left and would be lifted above their counter."""
        least = self._least()
        gone = [one for one in self._tokens if one not in self._num_requests and self._tokens[one] < least]
        for one in gone:
            del self._tokens[one]

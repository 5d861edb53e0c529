"""The cost of a call in whole numbers, so that sums are exact in any order.

Owns the unit of money (a billionth of a dollar) and rounding, which is always up. Never knows who pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Self

from sundog.tokens import TokenPrices

NANO_PER_USD = 10**9
_PICO_PER_NANO = 1000


@dataclass(frozen=True, slots=True)
class Charge:
    """Money and tokens, of one call or of many."""

    #: Billionths of a dollar.
    nano_usd: int = 0
    #: Tokens of prompts and answers together.
    num_tokens: int = 0

    def __add__(self, other: Charge) -> Charge:
        return Charge(self.nano_usd + other.nano_usd, self.num_tokens + other.num_tokens)

    def __sub__(self, other: Charge) -> Charge:
        return Charge(self.nano_usd - other.nano_usd, self.num_tokens - other.num_tokens)

    @property
    def usd(self) -> float:
        return self.nano_usd / NANO_PER_USD


NO_CHARGE = Charge()


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices of an engine's tokens, in thousandths of a billionth of a dollar a token.

    >>> tariff = Tariff.of(TokenPrices(input_usd_per_mtok=0.15, output_usd_per_mtok=0.6))
    >>> tariff.most(1000, 100)
    Charge(nano_usd=210000, num_tokens=1100)
    >>> tariff.charge(1000, 10)
    Charge(nano_usd=156000, num_tokens=1010)
    """

    input_pico_usd: int = 0
    cached_input_pico_usd: int = 0
    output_pico_usd: int = 0

    @classmethod
    def of(cls, prices: TokenPrices | None) -> Self:
        """Return the tariff of an engine's block; without prices tokens cost nothing."""
        if prices is None:
            return cls()
        cached = prices.cached_input_usd_per_mtok
        each_token = _pico_usd(prices.input_usd_per_mtok)
        return cls(
            each_token, each_token if cached is None else _pico_usd(cached), _pico_usd(prices.output_usd_per_mtok)
        )

    @property
    def is_free(self) -> bool:
        return not (self.input_pico_usd or self.cached_input_pico_usd or self.output_pico_usd)

    def most(self, max_prompt_tokens: int, max_output_tokens: int) -> Charge:
        """Return the most that a call can cost, whatever of its prompt comes from a cache."""
        each_token = max(self.input_pico_usd, self.cached_input_pico_usd)
        pico_usd = max_prompt_tokens * each_token + max_output_tokens * self.output_pico_usd
        return Charge(-(-pico_usd // _PICO_PER_NANO), max_prompt_tokens + max_output_tokens)

    def charge(self, num_prompt_tokens: int, num_output_tokens: int, num_cached_tokens: int = 0) -> Charge:
        """Return what a call has cost. `num_cached_tokens` of the prompt came from a cache."""
        num_computed = num_prompt_tokens - num_cached_tokens
        pico_usd = num_computed * self.input_pico_usd + num_cached_tokens * self.cached_input_pico_usd
        pico_usd += num_output_tokens * self.output_pico_usd
        return Charge(-(-pico_usd // _PICO_PER_NANO), num_prompt_tokens + num_output_tokens)


def nano_usd_of(usd: float) -> int:
    """Return a limit in dollars as it was written, in billionths, rounded down."""
    return int((Decimal(repr(usd)) * NANO_PER_USD).to_integral_value(ROUND_FLOOR))


def shown_usd(nano_usd: int) -> str:
    """Return dollars with the digits that they have, and at least two.

    >>> shown_usd(1_500_000_000), shown_usd(150)
    ('$1.50', '$0.00000015')
    """
    whole, part = divmod(nano_usd, NANO_PER_USD)
    return f"${whole:,}.{f'{part:09}'.rstrip('0').ljust(2, '0')}"


def _pico_usd(usd_per_million: float) -> int:
    """Return a price per million tokens as one per token, rounded up."""
    return int((Decimal(repr(usd_per_million)) * 10**6).to_integral_value(ROUND_CEILING))

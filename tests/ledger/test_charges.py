"""The cost of calls is exact, and rounded up where it is rounded."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.ledger.charges import Charge, Tariff, nano_usd_of, shown_usd
from sundog.tokens import TokenPrices

PRICES = st.decimals(min_value=0, max_value=100, places=4).map(float)
TOKENS = st.integers(0, 10**6)


def test_a_call_costs_what_its_tokens_do() -> None:
    prices = TokenPrices(input_usd_per_mtok=0.15, output_usd_per_mtok=0.6, cached_input_usd_per_mtok=0.0375)
    assert Tariff.of(prices).charge(1000, 10, 800) == Charge(30_000 + 30_000 + 6_000, 1010)
    assert Tariff.of(prices).most(1000, 100) == Charge(210_000, 1100)


def test_cached_tokens_without_a_price_cost_what_all_do() -> None:
    tariff = Tariff.of(TokenPrices(input_usd_per_mtok=0.15, output_usd_per_mtok=0.6))
    assert tariff.charge(1000, 0, 800) == tariff.charge(1000, 0, 0) == Charge(150_000, 1000)


def test_tokens_count_where_they_are_free() -> None:
    assert Tariff.of(None).is_free
    assert Tariff.of(None).charge(70, 30) == Charge(0, 100)
    assert not Tariff.of(TokenPrices(input_usd_per_mtok=0.0, output_usd_per_mtok=0.6)).is_free


@given(PRICES, PRICES, st.none() | PRICES, TOKENS, TOKENS, st.data())
def test_no_call_costs_more_than_the_most(
    price: float, output_price: float, cached: float | None, prompt: int, output: int, data: st.DataObject
) -> None:
    prices = TokenPrices(input_usd_per_mtok=price, output_usd_per_mtok=output_price, cached_input_usd_per_mtok=cached)
    num_cached = data.draw(st.integers(0, prompt))
    charge, most = Tariff.of(prices).charge(prompt, output, num_cached), Tariff.of(prices).most(prompt, output)
    assert charge.nano_usd <= most.nano_usd
    assert charge.num_tokens == most.num_tokens == prompt + output
    cached_price = price if cached is None else cached
    exact = sum(
        Fraction(repr(each)) * number
        for each, number in ((price, prompt - num_cached), (cached_price, num_cached), (output_price, output))
    )
    assert exact * 1000 <= charge.nano_usd < exact * 1000 + 1


@pytest.mark.parametrize(
    ("usd", "nano_usd", "shown"),
    [(0.1, 10**8, "$0.10"), (1234.5, 1_234_500_000_000, "$1,234.50"), (0.0, 0, "$0.00"), (1e-9, 1, "$0.000000001")],
)
def test_limits_in_dollars_are_what_was_written(usd: float, nano_usd: int, shown: str) -> None:
    assert nano_usd_of(usd) == nano_usd
    assert shown_usd(nano_usd) == shown

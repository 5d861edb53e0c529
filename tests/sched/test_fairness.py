"""Virtual token counters: what tenants had, and that nobody saves up or falls behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.fairness import VirtualTokens


def test_an_output_token_counts_as_two_and_a_weight_divides() -> None:
    tokens = VirtualTokens()
    for tenant in ("plain", "paying"):
        tokens.arrive(tenant)
    for tenant, weight in (("plain", 1.0), ("paying", 4.0)):
        tokens.charge(tenant, 100, 10, weight)
    assert dict(tokens) == {"plain": 120.0, "paying": 30.0}


def test_idle_time_saves_up_nothing() -> None:
    tokens = VirtualTokens()
    tokens.arrive("busy")
    tokens.charge("busy", 500, 0)
    tokens.arrive("other")
    assert tokens["other"] == 500.0
    tokens.charge("other", 100, 0)
    tokens.leave("other")
    tokens.arrive("other")
    assert tokens["other"] == 600.0, "what it had more than others it had"


def test_after_an_empty_house_all_start_from_the_most() -> None:
    tokens = VirtualTokens()
    for tenant, num_tokens in (("a", 10), ("b", 70)):
        tokens.arrive(tenant)
        tokens.charge(tenant, num_tokens, 0)
        tokens.leave(tenant)
    tokens.arrive("a")
    assert tokens["a"] == 80.0


def test_a_counter_that_no_longer_matters_is_forgotten() -> None:
    tokens = VirtualTokens()
    tokens.arrive("guest")
    tokens.charge("guest", 10, 0)
    tokens.arrive("regular")
    tokens.leave("guest")
    tokens.charge("regular", 100, 0)
    tokens.arrive("regular")
    tokens.leave("regular")
    tokens.arrive("another")
    tokens.leave("another")
    assert set(tokens) == {"regular", "another"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=10, max_size=80))
def test_with_the_least_served_next_no_tenant_falls_behind(work: list[tuple[str, int]]) -> None:
    """All have work all the time; each turn serves the one with least: counters differ by one turn at most."""
    tokens = VirtualTokens()
    for tenant in "abc":
        tokens.arrive(tenant)
    for _, num_tokens in work:
        tokens.charge(min(tokens, key=lambda tenant: tokens[tenant]), num_tokens, 0)
        assert max(tokens.values()) - min(tokens.values()) <= 50

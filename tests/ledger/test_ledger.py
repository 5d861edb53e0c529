"""No limit is passed, in no interleaving, while calls cost at most what was reserved for them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sundog.errors import ConfigError
from sundog.ledger.charges import NANO_PER_USD, NO_CHARGE, Charge
from sundog.ledger.ledger import Ledger, LimitRefusal, Reservation, SpendingLimits, SpendingScope

RUN = SpendingScope("run", "r")
TENANT = SpendingScope("tenant", "acme")


def opened(limits: SpendingLimits, spent: Charge = NO_CHARGE) -> Ledger:
    ledger = Ledger()
    ledger.open(RUN, limits, spent)
    return ledger


def refused(outcome: Reservation | LimitRefusal) -> LimitRefusal:
    assert isinstance(outcome, LimitRefusal)
    return outcome


def held(outcome: Reservation | LimitRefusal) -> Reservation:
    assert isinstance(outcome, Reservation)
    return outcome


def test_a_call_that_fits_exactly_starts() -> None:
    ledger = opened(SpendingLimits(max_tokens=100), Charge(num_tokens=30))
    held(ledger.reserve([RUN], Charge(num_tokens=70), 0.0))
    assert refused(ledger.reserve([RUN], Charge(num_tokens=1), 0.0)).limit == "max_tokens"


def test_a_refusal_names_the_scope_the_limit_and_the_figures() -> None:
    ledger = opened(SpendingLimits(max_usd=1.0), Charge(400_000_000, 10))
    ledger.reserve([RUN], Charge(500_000_000, 10), 0.0)
    refusal = refused(ledger.reserve([RUN], Charge(150_000_000, 10), 0.0))
    assert str(refusal) == ("max_usd of the run 'r' is $1.00: spent $0.40, reserved $0.50, and the call may take $0.15")
    assert refusal.may_fit_later, "the calls that run may cost less"
    assert not refused(ledger.reserve([RUN], Charge(700_000_000, 10), 0.0)).may_fit_later


def test_settled_calls_make_room() -> None:
    ledger = opened(SpendingLimits(max_tokens=100))
    first = held(ledger.reserve([RUN], Charge(num_tokens=80), 0.0))
    assert refused(ledger.reserve([RUN], Charge(num_tokens=50), 0.0)).may_fit_later
    ledger.settle(first, Charge(num_tokens=50))
    held(ledger.reserve([RUN], Charge(num_tokens=50), 0.0))
    assert (ledger.spent(RUN).num_tokens, ledger.reserved(RUN).num_tokens) == (50, 50)


def test_a_released_call_has_cost_nothing() -> None:
    ledger = opened(SpendingLimits(max_tokens=100))
    ledger.release(held(ledger.reserve([RUN], Charge(num_tokens=80), 0.0)))
    assert ledger.spent(RUN) == ledger.reserved(RUN) == NO_CHARGE


def test_a_call_that_cost_more_is_counted_whole() -> None:
    ledger = opened(SpendingLimits(max_tokens=100))
    ledger.settle(held(ledger.reserve([RUN], Charge(num_tokens=80), 0.0)), Charge(num_tokens=120))
    assert ledger.spent(RUN).num_tokens == 120
    assert not refused(ledger.reserve([RUN], Charge(num_tokens=1), 0.0)).may_fit_later
    held(ledger.reserve([RUN], NO_CHARGE, 0.0))


def test_nothing_starts_at_the_deadline() -> None:
    ledger = opened(SpendingLimits(deadline_s=10.0))
    held(ledger.reserve([RUN], NO_CHARGE, 9.9))
    refusal = refused(ledger.reserve([RUN], NO_CHARGE, 10.0))
    assert (refusal.limit, refusal.may_fit_later) == ("deadline", False)
    assert str(refusal) == "the deadline of the run 'r' has passed"


def test_a_call_is_paid_from_all_of_its_scopes_or_none() -> None:
    ledger = opened(SpendingLimits(max_tokens=100))
    ledger.open(TENANT, SpendingLimits(max_tokens=50))
    assert refused(ledger.reserve([RUN, TENANT], Charge(num_tokens=60), 0.0)).scope == TENANT
    assert ledger.reserved(RUN) == NO_CHARGE
    both = held(ledger.reserve([RUN, TENANT], Charge(num_tokens=40), 0.0))
    assert both.scopes == (RUN, TENANT)
    ledger.settle(both, Charge(num_tokens=30))
    assert ledger.spent(RUN) == ledger.spent(TENANT) == Charge(num_tokens=30)


def test_of_several_reasons_the_one_that_stays_is_told() -> None:
    ledger = opened(SpendingLimits(max_tokens=100))
    ledger.open(TENANT, SpendingLimits(max_tokens=50), Charge(num_tokens=45))
    ledger.reserve([RUN], Charge(num_tokens=95), 0.0)
    assert refused(ledger.reserve([RUN, TENANT], Charge(num_tokens=10), 0.0)).scope == TENANT


def test_a_larger_limit_lets_calls_start_again() -> None:
    ledger = opened(SpendingLimits(max_tokens=100), Charge(num_tokens=95))
    refused(ledger.reserve([RUN], Charge(num_tokens=10), 0.0))
    ledger.open(RUN, SpendingLimits(max_tokens=200))
    held(ledger.reserve([RUN], Charge(num_tokens=10), 0.0))
    assert ledger.spent(RUN).num_tokens == 95


def test_a_call_may_outlive_its_scope() -> None:
    ledger = opened(SpendingLimits())
    ledger.open(TENANT)
    call = held(ledger.reserve([RUN, TENANT], Charge(num_tokens=40), 0.0))
    assert ledger.close(RUN) == NO_CHARGE
    assert not ledger.is_open(RUN)
    ledger.settle(call, Charge(num_tokens=30))
    assert ledger.spent(TENANT).num_tokens == 30


def test_a_call_is_settled_once() -> None:
    ledger = opened(SpendingLimits())
    call = held(ledger.reserve([RUN], Charge(num_tokens=40), 0.0))
    ledger.settle(call, NO_CHARGE)
    with pytest.raises(AssertionError, match="once"):
        ledger.release(call)


@pytest.mark.parametrize("usd", [-0.01, math.nan, math.inf])
def test_what_is_no_limit_is_refused(usd: float) -> None:
    with pytest.raises(ConfigError, match="max_usd cannot be"):
        SpendingLimits(max_usd=usd)
    with pytest.raises(ConfigError, match="max_tokens cannot be -1"):
        SpendingLimits(max_tokens=-1)


NAMES = [SpendingScope("run", "a"), SpendingScope("tenant", "b"), SpendingScope("key", "c")]
CHARGES = st.builds(Charge, st.integers(0, 40), st.integers(0, 40))


class Interleavings(RuleBasedStateMachine):
    """Calls of several scopes start, end, fail and vanish in any order; scopes are limited anew, never below what they
    hold."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.limits: dict[SpendingScope, tuple[int, int]] = {}
        self.running: list[Reservation] = []
        self.spent: Counter[SpendingScope] = Counter()
        for scope in NAMES:
            self.ledger.open(scope)

    @rule(scope=st.sampled_from(NAMES), more=st.tuples(st.integers(0, 100), st.integers(0, 100)))
    def limit(self, scope: SpendingScope, more: tuple[int, int]) -> None:
        taken = self.ledger.spent(scope) + self.ledger.reserved(scope)
        nano_usd, num_tokens = taken.nano_usd + more[0], taken.num_tokens + more[1]
        self.ledger.open(scope, SpendingLimits(nano_usd / NANO_PER_USD, num_tokens))
        self.limits[scope] = (nano_usd, num_tokens)

    @rule(scopes=st.sets(st.sampled_from(NAMES), min_size=1), charge=CHARGES)
    def start(self, scopes: set[SpendingScope], charge: Charge) -> None:
        fits = all(self._fits(scope, charge) for scope in scopes & self.limits.keys())
        outcome = self.ledger.reserve(sorted(scopes), charge, 0.0)
        assert fits == isinstance(outcome, Reservation), "a call that fits is let start"
        if isinstance(outcome, Reservation):
            self.running.append(outcome)

    def _fits(self, scope: SpendingScope, charge: Charge) -> bool:
        held = self.ledger.spent(scope) + self.ledger.reserved(scope) + charge
        max_nano_usd, max_tokens = self.limits[scope]
        return held.nano_usd <= max_nano_usd and held.num_tokens <= max_tokens

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        call = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        charge = Charge(
            data.draw(st.integers(0, call.charge.nano_usd)), data.draw(st.integers(0, call.charge.num_tokens))
        )
        self.ledger.settle(call, charge)
        for scope in call.scopes:
            self.spent[scope] += charge.num_tokens

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.ledger.release(self.running.pop(data.draw(st.integers(0, len(self.running) - 1))))

    @invariant()
    def no_limit_is_passed(self) -> None:
        for scope, (nano_usd, num_tokens) in self.limits.items():
            taken = self.ledger.spent(scope) + self.ledger.reserved(scope)
            assert taken.nano_usd <= nano_usd
            assert taken.num_tokens <= num_tokens

    @invariant()
    def nothing_is_lost(self) -> None:
        for scope in NAMES:
            running = [call.charge for call in self.running if scope in call.scopes]
            assert self.ledger.reserved(scope) == sum(running, NO_CHARGE)
            assert self.ledger.spent(scope).num_tokens == self.spent[scope]


TestInterleavings = Interleavings.TestCase

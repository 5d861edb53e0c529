"""One policy set, one scenario, several hosts: the same calls start in the same order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.facts import TIERS
from sundog.sched.policy import PolicySet
from tests.hosts.scenarios import Ask, by_core, by_driver, by_plugin, told
from tests.sched.sets import REGISTERED, SETS

FIRST = Ask("first", 0.0, 10.0, envelope={"workflow": "w0"})


def waiting(*asks: Ask) -> list[Ask]:
    """While the first one runs, the others come one after another."""
    return [FIRST, *asks]


def ask(name: str, at_s: float, **envelope: object) -> Ask:
    return told(Ask(name, at_s), **{"workflow": name, **envelope})


SCENARIOS = [
    ("fcfs", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("vllm_default", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("round_robin", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("llumnix", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("past_future", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("kvflow", waiting(ask("a", 1), ask("b", 2)), "ab"),
    ("slack_edf", waiting(ask("a", 1), ask("b", 2, deadline_s=90.0), ask("c", 3, deadline_s=50.0)), "cba"),
    ("slack_edf", waiting(ask("a", 1, deadline_s=2.0), ask("b", 2)), "ba"),
    ("critical_path", waiting(ask("a", 1, successor_path_s=2.0), ask("b", 2, successor_path_s=5.0)), "ba"),
    ("shortest_remaining", waiting(ask("a", 1, remaining_tokens=900.0), ask("b", 2, remaining_tokens=50.0)), "ba"),
    (
        "fair_share",
        [told(FIRST, tenant="greedy"), ask("a", 1, tenant="greedy"), ask("b", 2, tenant="modest")],
        "ba",
    ),
    (
        "least_attained_service",
        [
            Ask("first", 0.0, 10.0, 500, envelope={"workflow": "long", "last_turn": False}),
            Ask("other", 0.5, 1.0, envelope={"workflow": "x"}),
            ask("a", 10.5, workflow="long", turn=1),
            ask("b", 10.75),
        ],
        ["other", "b", "a"],
    ),
    (
        "continuum",
        [
            told(FIRST, last_turn=False),
            Ask("other", 1.0, 5.0, envelope={"workflow": "x"}),
            ask("a", 2.0),
            ask("back", 11.0, workflow="w0", turn=1),
        ],
        ["other", "back", "a"],
    ),
    (
        "live",
        waiting(ask("a", 1, tier="flex"), ask("b", 2), ask("c", 3, tier="batch"), ask("d", 4, tier="priority")),
        "dbac",
    ),
    ("live", waiting(ask("a", 1, deadline_s=2.0), ask("b", 2), ask("c", 3, deadline_s=90.0)), "cba"),
    (
        "live",
        [
            told(FIRST, last_turn=False),
            Ask("other", 1.0, 5.0, envelope={"workflow": "x"}),
            ask("a", 2.0),
            ask("back", 11.0, workflow="w0", turn=1, last_turn=False),
            ask("of a child", 11.5, root="w0"),
        ],
        ["other", "back", "of a child", "a"],
    ),
    ("prefix_grouped", waiting(ask("a", 1), ask("b", 2)), "ab"),
]


@pytest.mark.parametrize(("name", "asks", "expected"), SCENARIOS)
def test_what_starts_when(name: str, asks: list[Ask], expected: str | list[str]) -> None:
    for host in (by_core, by_driver, by_plugin):
        assert host(REGISTERED[name], asks) == ["first", *expected], host.__name__


@pytest.mark.parametrize("policies", SETS, ids=lambda policies: policies.name)
def test_calls_follow_the_order_of_the_plan_where_the_set_does(policies: PolicySet) -> None:
    """Row 0 is through its first step when a call of row 1's comes."""
    asks = [FIRST, ask("next", 1, node="check"), ask("root", 2, node="draft"), ask("other", 3, node="draft")]
    expected = ["root", "other", "next"] if policies.name == "prefix_grouped" else ["next", "root", "other"]
    for host in (by_core, by_driver):
        assert host(policies, asks, ["draft", "check"]) == ["first", *expected], host.__name__


def test_every_set_has_a_scenario() -> None:
    assert {name for name, *_ in SCENARIOS} == set(REGISTERED)


def _asks(drawn: list[tuple[int, int, int, int, bool, int, int]]) -> list[Ask]:
    """Random calls of few workflows, whose turns come in order, at times of which no two are equal."""
    turns: dict[str, int] = {}
    asks = []
    at_s = 0.0
    for number, (gap, takes, who, size, is_last, tenant, deadline) in enumerate(drawn):
        at_s += gap + 1 / 128
        workflow = f"w{who}"
        turn = turns[workflow] = turns.get(workflow, -1) + 1
        envelope = {
            "workflow": workflow,
            "turn": turn,
            "last_turn": is_last,
            "tenant": f"t{tenant}",
            "remaining_tokens": float(size * 10),
            "tier": TIERS[size % len(TIERS)],
            "successor_path_s": float(deadline),
            **({"deadline_s": float(deadline)} if deadline else {}),
        }
        asks.append(Ask(f"r{number}", at_s, takes + number / 4096, 16 * (1 + size), 1 + size, envelope))
    return asks


DRAWN = st.tuples(
    st.integers(0, 2),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 30),
)


@given(policies=st.sampled_from(SETS), drawn=st.lists(DRAWN, min_size=2, max_size=16))
def test_hosts_start_the_same_calls_in_the_same_order(
    policies: PolicySet, drawn: list[tuple[int, int, int, int, bool, int, int]]
) -> None:
    asks = _asks(drawn)
    expected = by_core(policies, asks)
    assert by_driver(policies, asks) == expected
    assert by_plugin(policies, asks) == expected

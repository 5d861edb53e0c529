"""The simulations of live load, small: admitted programs compute less twice, and a batch costs others little."""

from __future__ import annotations

from argparse import Namespace

import pytest
from live_agents import compared
from live_batch import LOADS, measure, p95
from vllm_agents import made

from sundog.sched.catalog import LIVE


def test_agents_compute_less_twice_than_where_any_turn_starts() -> None:
    found = compared(made(48, 0), ("fcfs", "continuum", "live"), num_replicas=1, share=0.3)
    prefill = {name: figures["prefill_over_least"] for name, figures in found.items()}
    assert prefill["live"] < 1.3 < 2.5 < prefill["continuum"] < prefill["fcfs"]
    times_s = {name: figures["mean_program_s"] for name, figures in found.items()}
    assert times_s["live"] < times_s["continuum"] < times_s["fcfs"]


@pytest.mark.slow
def test_a_batch_gets_most_of_what_live_load_leaves_and_costs_it_little() -> None:
    given = Namespace(replicas=1, seconds=600.0)
    alone = measure(LIVE, None, 0.0, given, has_batch=True).num_tokens["batch"] / given.seconds
    live = LOADS["swings to 1.1"]
    before, after = (measure(LIVE, live, alone / 150.0, given, has_batch=has_batch) for has_batch in (False, True))
    left = alone - before.num_tokens["default"] / given.seconds
    assert after.num_tokens["batch"] / given.seconds >= 0.8 * left
    assert p95(after.live_s) <= 1.1 * p95(before.live_s)

"""The faults that benchmarks/serve_faults.py measures at length, in short: what is accepted is not lost, and nothing of
a client that has gone stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from faults.kills import KillLoad, kills, reckoned
from faults.memory import MemoryLoad, memory
from faults.replicas import KINDS, ReplicaLoad, replicas
from faults.vanishing import VanishLoad, vanishing

SEED = 3


def test_what_became_of_rows_is_reckoned() -> None:
    """The counts of a run in which everything went wrong once."""
    failed = {"state": "failed", "error": {"node": "note"}}
    ends = {
        0: {"state": "done", "output": {"id": 0}},
        1: {"state": "done", "output": {"id": 7}},
        2: failed,
        3: {"state": "failed", "error": {"node": "after"}},
        4: failed,
    }
    found = reckoned(ends, Counter([0, 0, 2]), 6)
    told = {name: number for name, number in found.items() if number}
    assert told == {
        "num_rows": 6,
        "num_lost": 1,
        "num_done": 2,
        "num_done_with_a_wrong_output": 1,
        "num_done_without_their_effect": 1,
        "num_effects_doubled": 1,
        "num_failed_for_an_unknown_outcome": 2,
        "num_of_these_whose_effect_had_happened": 1,
        "num_failed_for_another_reason": 1,
    }


@pytest.mark.slow
def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    load = KillLoad(SEED, 2, 20, 0.1, num_senders=4, num_chatters=2)
    found = asyncio.run(kills(load, tmp_path))
    assert found["num_rows"] == found["num_done"] + found["num_failed_for_an_unknown_outcome"]
    for name in ("lost", "done_with_a_wrong_output", "done_without_their_effect", "effects_doubled"):
        assert found[f"num_{name}"] == 0, found
    assert found["num_keys_that_gave_another_run_when_sent_again"] == 0
    assert found["num_chats_answered"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_replicas_that_are_killed_cost_streams_that_had_begun_and_nothing_else(tmp_path: Path, kind: str) -> None:
    load = ReplicaLoad(SEED, 2, 2, 0.5, 0.5, num_chatters=2, num_readers=2, num_senders=2)
    found = asyncio.run(replicas(load, kind, tmp_path))
    allowed = {"rows done", "streams", "streams that ended with an error", "whole answers"}
    assert set(found["seen"]) <= allowed, found
    assert found["rows"]["done"] == found["rows"]["num_accepted"] > 0
    assert found["rows"]["num_with_a_wrong_output"] == 0


@pytest.mark.slow
def test_clients_that_vanish_leave_nothing_in_flight(tmp_path: Path) -> None:
    found = asyncio.run(vanishing(VanishLoad(SEED, 200, 16, 0.1, 100), tmp_path))
    assert sum(found["clients"].values()) == 200
    assert set(found["in_flight_in_the_end"].values()) == {0.0}
    assert found["num_answered_at_once_in_the_end"] == 8
    first, *_, last = (note["num_fds"] for note in found["notes"])
    assert last <= first


@pytest.mark.slow
def test_every_request_of_the_mix_is_answered(tmp_path: Path) -> None:
    found = asyncio.run(memory(MemoryLoad(SEED, 400, 40, 8, 100), tmp_path))
    statuses = found["chats"]["statuses"]
    assert (sum(statuses.values()), found["chats"]["num_broken_off"]) == (400, 0)
    assert statuses.keys() <= {"200", "400", "404"}
    assert found["rows"]["statuses"] == {"200": 40}

"""When replicas change their roles, as a table."""

from __future__ import annotations

import pytest

from sundog.sched.fleets import DecodeView, Flip, PrefillView
from sundog.sched.policies.role_flip import by_load


@pytest.mark.parametrize(
    ("num_prefill", "num_full_steps", "num_decode", "num_waiting", "usage", "expected"),
    [
        (2, 0.0, 2, 1, 1.0, "to_decode"),
        (2, 0.99, 2, 1, 0.2, "to_decode"),  # it is blocks that are scarce, or places of one replica
        (2, 1.0, 2, 1, 1.0, None),  # both have work
        (1, 0.0, 2, 1, 1.0, None),  # the last one stays
        (2, 0.0, 2, 0, 1.0, None),
        (2, 2.0, 2, 0, 0.5, "to_prefill"),
        (2, 2.0, 2, 0, 0.51, None),  # one fewer has no room for all
        (2, 2.0, 4, 0, 0.75, "to_prefill"),
        (2, 1.9, 2, 0, 0.0, None),
        (2, 9.0, 1, 0, 0.0, None),
        (2, 9.0, 2, 1, 0.0, None),
    ],
)
def test_one_flips_to_where_requests_wait(
    num_prefill: int, num_full_steps: float, num_decode: int, num_waiting: int, usage: float, expected: Flip | None
) -> None:
    found = by_load(PrefillView(num_prefill, num_full_steps), DecodeView(num_decode, num_waiting, usage))
    assert found == expected

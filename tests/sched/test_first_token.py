"""The attempts that are to report their first token: those that compute a prefix for which others wait."""

from __future__ import annotations

import pytest

from sundog.sched.catalog import PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import PrefillEnded, ReplicaAdded, RequestArrived, Submit

DOCUMENT, OTHER = (1, 2, 3), (7, 8)


def arrival(name: str, key: tuple[int, ...], *, more_follow: bool = False) -> RequestArrived:
    return RequestArrived(0.0, name, "p", int(name), 0, 100, 10, key, more_follow=more_follow)


def core(*, shares: bool = False) -> SchedulerCore:
    made = SchedulerCore(PREFIX_GROUPED)
    made.handle(ReplicaAdded(0.0, "p/0", "p", 8, None, 1000, shares_cold_prefixes=shares))
    return made


def asked_for(core: SchedulerCore, *arrivals: RequestArrived) -> dict[str, bool]:
    actions = [action for one in arrivals for action in core.handle(one)]
    return {action.request_id: action.needs_first_token for action in actions if isinstance(action, Submit)}


def test_the_first_of_a_prefix_reports_it_and_the_others_need_not() -> None:
    scheduler = core()
    first = asked_for(scheduler, arrival("0", (*DOCUMENT, 10), more_follow=True), arrival("1", (*DOCUMENT, 11)))
    assert first == {"0": True}
    followers = [action for action in scheduler.handle(PrefillEnded(1.0, "0")) if isinstance(action, Submit)]
    assert [(action.request_id, action.needs_first_token) for action in followers] == [("1", False)]


def test_who_shares_nothing_with_anybody_reports_nothing() -> None:
    assert asked_for(core(), arrival("0", DOCUMENT, more_follow=True), arrival("1", OTHER)) == {"0": False, "1": False}


def test_a_call_without_a_prefix_reports_nothing() -> None:
    assert asked_for(core(), arrival("0", (), more_follow=True), arrival("1", ())) == {"0": False, "1": False}


def test_nobody_waits_where_prefixes_are_shared_while_they_are_computed() -> None:
    scheduler = core(shares=True)
    started = asked_for(scheduler, arrival("0", (*DOCUMENT, 10), more_follow=True), arrival("1", (*DOCUMENT, 11)))
    assert started == {"0": False, "1": False}


@pytest.mark.parametrize("document", [DOCUMENT, OTHER])
def test_a_document_under_a_warm_beginning_is_a_prefix_of_its_own(document: tuple[int, ...]) -> None:
    scheduler = core()
    asked_for(scheduler, arrival("0", (100, 50), more_follow=True), arrival("1", (100, 51)))
    scheduler.handle(PrefillEnded(1.0, "0"))
    key = (100, *document)
    assert asked_for(scheduler, arrival("2", (*key, 10), more_follow=True), arrival("3", (*key, 11))) == {"2": True}

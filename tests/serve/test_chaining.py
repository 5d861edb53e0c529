"""Programs that are known by nothing but their messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.chaining import ChainedRequest, ProgramChains
from sundog.serve.message_digests import conversation_digests

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Clients:
    """A book, with ids in the order of the requests."""

    def __init__(self, max_programs: int = 100) -> None:
        self.chains = ProgramChains(max_programs)
        self._num_requests = 0

    def ask(self, *messages: dict[str, Any], answer: str = "", scope: str = "t") -> ChainedRequest:
        """Send a request, which is answered where there is an answer."""
        self._num_requests += 1
        request = self.chains.request(scope, messages, f"p{self._num_requests}")
        if answer:
            self.chains.answered(request, said(answer))
        return request


def places(*requests: ChainedRequest) -> list[tuple[str, str, bool]]:
    return [(one.program, one.parent, one.is_new) for one in requests]


def test_a_conversation_that_goes_on_is_one_program() -> None:
    clients = Clients()
    first = clients.ask(SYSTEM, user("a"), answer="1")
    second = clients.ask(SYSTEM, user("a"), said("1"), user("b"), answer="2")
    third = clients.ask(SYSTEM, user("a"), said("1"), user("b"), said("2"), user("c"), user("d"))
    assert places(first, second, third) == [("p1", "", True), ("p1", "", False), ("p1", "", False)]


def test_equal_first_requests_are_programs_of_their_own() -> None:
    clients = Clients()
    requests = [clients.ask(SYSTEM, user("a"), answer="1") for _ in range(3)]
    assert [one.program for one in requests] == ["p1", "p2", "p3"]
    went_on = [clients.ask(SYSTEM, user("a"), said("1"), user(f"b{number}")) for number in range(3)]
    assert places(*went_on) == [("p1", "", False), ("p2", "", False), ("p3", "", False)]


def test_equal_first_requests_with_different_answers_go_on_by_their_answers() -> None:
    clients = Clients()
    for number in range(3):
        clients.ask(user("a"), answer=f"{number}")
    went_on = [clients.ask(user("a"), said(f"{number}"), user("b")) for number in (2, 0, 1)]
    assert [one.program for one in went_on] == ["p3", "p1", "p2"]


def test_the_second_of_two_that_go_on_is_a_child() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="1")
    begin = (user("a"), said("1"))
    first, second = clients.ask(*begin, user("b"), answer="2"), clients.ask(*begin, user("c"), answer="3")
    assert places(first, second) == [("p1", "", False), ("p3", "p1", True)]
    on_first = clients.ask(*begin, user("b"), said("2"), user("d"))
    on_second = clients.ask(*begin, user("c"), said("3"), user("e"))
    assert places(on_first, on_second) == [("p1", "", False), ("p3", "", False)]


def test_a_fork_far_back_is_a_child_of_the_program_that_went_on_there() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="1")
    clients.ask(user("a"), said("1"), user("b"), answer="2")
    clients.ask(user("a"), said("1"), user("b"), said("2"), user("c"), answer="3")
    fork = clients.ask(user("a"), said("1"), user("x"))
    assert places(fork) == [("p4", "p1", True)]


def test_an_answer_that_the_client_has_changed() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="<think>hm</think> 1")
    assert places(clients.ask(user("a"), said("1"), user("b"))) == [("p1", "", False)]


def test_a_changed_answer_that_may_be_of_several_programs_is_of_none() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="1")
    clients.ask(user("a"), answer="2")
    assert places(clients.ask(user("a"), said("3"), user("b"))) == [("p3", "", True)]


def test_a_request_that_failed_is_asked_again() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="1")
    messages = (user("a"), said("1"), user("b"))
    failed = clients.ask(*messages)
    clients.chains.failed(failed)
    assert places(failed, clients.ask(*messages)) == [("p1", "", False)] * 2
    new = clients.ask(user("x"))
    clients.chains.failed(new)
    assert len(clients.chains) == 1


def test_a_late_answer_of_a_program_that_has_gone_on_changes_nothing() -> None:
    clients = Clients()
    first = clients.ask(user("a"))
    clients.ask(user("a"), user("b"), answer="2")
    clients.chains.answered(first, said("1"))
    clients.chains.failed(first)
    assert places(clients.ask(user("a"), user("b"), said("2"), user("c"))) == [("p1", "", False)]


def test_programs_of_two_owners_never_meet() -> None:
    clients = Clients()
    clients.ask(user("a"), answer="1", scope="one")
    assert clients.ask(user("a"), said("1"), user("b"), scope="other").is_new


def test_a_program_that_has_ended() -> None:
    clients = Clients()
    first = clients.ask(user("a"), answer="1")
    clients.chains.forget(first.program)
    assert clients.ask(user("a"), said("1"), user("b")).is_new


def test_the_oldest_are_forgotten_first() -> None:
    clients = Clients(max_programs=2)
    for text in "abc":
        clients.ask(user(text), answer="1")
    assert len(clients.chains) == 2
    assert clients.ask(user("c"), said("1"), user("x")).program == "p3"
    assert clients.ask(user("b"), said("1"), user("x")).program == "p2"
    assert clients.ask(user("a"), said("1"), user("x")).is_new


def test_a_program_that_goes_on_is_young_again() -> None:
    clients = Clients(max_programs=2)
    clients.ask(user("a"), answer="1")
    clients.ask(user("b"), answer="1")
    clients.ask(user("a"), said("1"), user("x"), answer="2")
    clients.ask(user("c"), answer="1")
    assert clients.ask(user("a"), said("1"), user("x"), said("2"), user("y")).program == "p1"
    assert clients.ask(user("b"), said("1"), user("y")).is_new


def test_a_request_without_messages() -> None:
    clients = Clients()
    assert places(clients.ask(), clients.ask()) == [("p1", "", True), ("p2", "", True)]


def equal(one: Any, other: Any) -> bool:
    return conversation_digests("t", [one]) == conversation_digests("t", [other])


CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"a":1,"b":2}'}}
CALL_AGAIN = {"id": "c9", "function": {"name": "clock", "arguments": ' {"b": 2, "a": 1}'}}


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        (said("x"), {**said(" x\n"), "refusal": None, "reasoning_content": "hm", "name": "n"}, True),
        (said("x"), user("x"), False),
        (user("x"), {"role": "user", "content": [{"type": "text", "text": "x"}]}, True),
        (user("x"), {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, False),
        (SYSTEM, {**SYSTEM, "role": "developer"}, True),
        (
            {"role": "system", "content": "x-anthropic-billing-header: a; cch=1\nBe brief."},
            {"role": "system", "content": "x-anthropic-billing-header: a; cch=2\nBe brief."},
            True,
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "assistant", "content": "", "tool_calls": [CALL_AGAIN]},
            True,
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
            False,
        ),
        (said("x"), {"role": "assistant", "content": "x", "tool_calls": [CALL]}, False),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}, said(""), False),
        (user("a\x00b"), user("a\x00c"), False),
    ],
)
def test_messages_are_known_by_what_they_say(one: Any, other: Any, is_equal: bool) -> None:
    assert equal(one, other) is is_equal


def test_the_digest_of_a_message_depends_on_all_before_it() -> None:
    one, other = conversation_digests("t", [user("a"), user("c")]), conversation_digests("t", [user("b"), user("c")])
    assert one[1] != other[1]
    assert conversation_digests("t", [user("ab")]) != conversation_digests("t", [user("a"), user("b")])[:1]
    assert len(one) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "tool_calls", "function", "name", "arguments", "type", "text"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4), VALUES)
def test_any_messages_have_a_place(messages: list[Any], answer: Any) -> None:
    chains = ProgramChains(2)
    first = chains.request("t", messages, "p1")
    chains.answered(first, answer)
    went_on = chains.request("t", [*messages, answer, user("more")], "p2")
    if messages:
        assert went_on.program == "p1"


def test_a_message_that_is_nested_deeply_has_a_place() -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    assert ProgramChains(2).request("t", [{"role": "user", "content": deep}], "p1").is_new


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xy"), st.booleans()), max_size=40), st.integers(1, 4))
def test_the_book_stays_within_its_bounds(steps: list[tuple[int, str, bool]], most: int) -> None:
    """Requests go on from any earlier one, are answered or fail: the book holds no more than it may."""
    chains = ProgramChains(most)
    conversations: list[list[Any]] = [[]]
    for number, (base, text, is_answered) in enumerate(steps):
        messages = [*conversations[base % len(conversations)], user(text)]
        request = chains.request("t", messages, f"p{number}")
        if is_answered:
            chains.answered(request, said(text))
            conversations.append([*messages, said(text)])
        else:
            chains.failed(request)
        assert len(chains) <= most
        assert len(chains._left) <= most
        assert request.program == f"p{number}" or not request.is_new

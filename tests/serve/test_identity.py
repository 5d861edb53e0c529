"""The identity of who asks: headers and fields by which clients and routers tell it, read or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.identity import IDENTITY_HEADERS, SESSION_NAMES, ToldIdentity, told_of
from sundog.serve.wire.errors import Refusal

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def body_with(path: str, value: Any) -> dict[str, Any]:
    """A body that has a value at a path with dots."""
    *above, last = path.split(".")
    body: dict[str, Any] = {}
    place = body
    for name in above:
        place[name] = {}
        place = place[name]
    place[last] = value
    return body


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two bodies in one."""
    both = {**one, **other}
    shared = [name for name in one if isinstance(one[name], dict) and isinstance(other.get(name), dict)]
    return both | {name: merged(one[name], other[name]) for name in shared}


def asked(names: dict[str, Any]) -> ToldIdentity:
    """All that a request tells that has these headers and fields."""
    headers = {name: value for name, value in names.items() if not name.startswith("body:")}
    body: dict[str, Any] = {}
    for name, value in names.items():
        if name.startswith("body:"):
            body = merged(body, body_with(name.removeprefix("body:"), value))
    return told_of(headers, body, None)


def test_a_request_that_tells_nothing() -> None:
    assert told_of({"content-type": "application/json", "x-session-id": " "}, {"session_id": None}) == ToldIdentity()


@pytest.mark.parametrize("name", SESSION_NAMES)
def test_every_name_of_a_session(name: str) -> None:
    told = asked({name: " s1 "})
    assert (told.session, told.session_source, told.parent) == ("s1", name, "")


def test_the_first_name_that_tells_a_session_counts() -> None:
    names = {name: f"of {name}" for name in SESSION_NAMES}
    for name in SESSION_NAMES:
        assert asked(names).session == f"of {name}"
        del names[name]


def test_the_order_of_the_names() -> None:
    """The order is that of the conventions; it is written here once more, so that nobody changes it by chance."""
    assert SESSION_NAMES == (
        "x-session-id", "body:session_id", "body:vllm_xargs.session_id", "x-dynamo-session-id",
        "x-claude-code-session-id", "session-id", "session_id", "x-session-affinity", "x-litellm-trace-id",
        "body:litellm_session_id", "body:metadata.session_id", "body:program_id", "body:extra_body.program_id",
        "body:prompt_cache_key", "x-correlation-id",
    )  # fmt: skip


def test_the_session_of_the_address_comes_before_all_others() -> None:
    told = told_of({"x-session-id": "h"}, {"session_id": "b"}, "p")
    assert (told.session, told.session_source) == ("p", "path")


@pytest.mark.parametrize(
    ("names", "session", "parent"),
    [
        ({"x-session-id": "s", "x-parent-session-id": "p"}, "s", "p"),
        ({"x-dynamo-session-id": "s", "x-dynamo-parent-session-id": "p"}, "s", "p"),
        ({"x-session-id": "s", "x-parent-session-id": "p", "x-dynamo-parent-session-id": "q"}, "s", "p"),
        ({"x-session-id": "s", "x-parent-session-id": "s"}, "s", ""),
        ({"x-claude-code-session-id": "c"}, "c", ""),
        ({"x-claude-code-session-id": "c", "x-claude-code-agent-id": "a"}, "c/a", "c"),
        (
            {
                "x-claude-code-session-id": "c",
                "x-claude-code-agent-id": "b",
                "x-claude-code-parent-agent-id": "a",
            },
            "c/b",
            "c/a",
        ),
        ({"x-claude-code-session-id": "c", "x-claude-code-parent-agent-id": "a"}, "c", ""),
        ({"x-session-id": "s", "x-claude-code-session-id": "c", "x-claude-code-agent-id": "a"}, "s", ""),
        ({"session-id": "c", "thread-id": "c"}, "c", ""),
        ({"session_id": "c", "thread-id": "t", "x-codex-parent-thread-id": "c"}, "c/t", "c"),
        ({"session-id": "c", "thread-id": "t", "x-codex-parent-thread-id": "u"}, "c/t", "c/u"),
        ({"thread-id": "t"}, "", ""),
    ],
)
def test_parents_and_agents(names: dict[str, Any], session: str, parent: str) -> None:
    told = asked(names)
    assert (told.session, told.parent) == (session, parent)


def test_agents_within_the_session_of_an_address() -> None:
    told = told_of({"x-claude-code-session-id": "c", "x-claude-code-agent-id": "a"}, {}, "row-7")
    assert (told.session, told.parent, told.session_source) == ("row-7/a", "row-7", "path")


@pytest.mark.parametrize(
    ("names", "tier"),
    [
        ({"body:service_tier": "flex"}, "flex"),
        ({"body:service_tier": "auto"}, "default"),
        ({"body:service_tier": "scale"}, "default"),
        ({"body:service_tier": "fast"}, "priority"),
        ({"body:service_tier": "Priority"}, "priority"),
        ({"x-smg-priority": "interactive"}, "priority"),
        ({"x-smg-priority": "system"}, "priority"),
        ({"x-smg-priority": "bulk"}, "flex"),
        ({"body:service_tier": "flex", "x-smg-priority": "interactive"}, "flex"),
        ({"x-llm-d-inference-objective": "flex"}, "flex"),
        ({"x-gateway-inference-objective": "priority"}, "priority"),
        ({"x-llm-d-inference-objective": "batch"}, "batch"),
        ({"x-llm-d-inference-objective": "any-name-of-theirs"}, "default"),
    ],
)
def test_classes(names: dict[str, Any], tier: str) -> None:
    assert asked(names).tier == tier


@pytest.mark.parametrize(
    ("names", "priority"),
    [
        ({"body:priority": 3}, 3),
        ({"body:priority": -3}, -3),
        ({"x-vllm-priority": "-2", "body:priority": 9}, -2),
        ({"body:nvext.agent_hints.priority": 5}, -5),
        ({"body:nvext.agent_hints.priority": -5}, 5),
        ({"body:priority": 1, "body:nvext.agent_hints.priority": 5}, 1),
    ],
)
def test_a_smaller_priority_is_sooner_whatever_the_sign_of_the_convention(names: dict[str, Any], priority: int) -> None:
    assert asked(names).priority == priority


def test_of_two_requests_the_more_urgent_one_has_the_smaller_number_in_both_conventions() -> None:
    urgent, other = asked({"body:nvext.agent_hints.priority": 9}), asked({"body:nvext.agent_hints.priority": 1})
    assert urgent.priority < other.priority
    urgent, other = asked({"body:priority": 1}), asked({"body:priority": 9})
    assert urgent.priority < other.priority


@pytest.mark.parametrize(
    "name",
    ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id", "x-smg-tenant-id", "x-tenant-id"],
)
def test_tenants(name: str) -> None:
    assert asked({name: "t", "x-tenant-id": "t"}).tenant == "t"


def test_limits_and_lengths() -> None:
    told = asked(
        {
            "x-llm-d-slo-ttft-ms": "250",
            "x-slo-ttft-ms": "9",
            "x-slo-tpot-ms": "12.5",
            "x-litellm-timeout": "30",
            "body:nvext.agent_hints.osl": 512,
            "x-sundog-deadline": "90.5",
            "x-sundog-budget": "0.02",
            "x-dynamo-session-final": "True",
            "traceparent": TRACE,
        }
    )
    assert (told.ttft_s, told.tpot_s, told.timeout_s) == (0.25, 0.0125, 30)
    assert (told.num_expected_output_tokens, told.deadline_s, told.budget_usd) == (512, 90.5, 0.02)
    assert (told.is_final, told.traceparent) == (True, TRACE)


@pytest.mark.parametrize(
    "written", ["", "x", TRACE[:-1], TRACE.replace("00-4", "ff-4"), f"00-{'0' * 32}-{'0' * 16}-01"]
)
def test_a_trace_context_that_cannot_be_read_begins_no_trace(written: str) -> None:
    assert told_of({"traceparent": written}, {}).traceparent == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-session-id", "s" * 513),
        ("x-session-id", "a\tb"),
        ("x-session-id", "a\x7fb"),
        ("body:session_id", 7),
        ("body:session_id", {"a": 1}),
        ("body:session_id", "a\ud800"),
        ("x-claude-code-session-id", "\x00"),
        ("x-parent-session-id", "p" * 513),
        ("x-tenant-id", "a\nb"),
        ("body:priority", "soon"),
        ("body:priority", 1.5),
        ("body:priority", True),
        ("body:priority", 2**40),
        ("x-vllm-priority", "nan"),
        ("x-vllm-priority", "\u0663"),
        ("body:nvext.agent_hints.priority", []),
        ("body:nvext.agent_hints.osl", -1),
        ("body:service_tier", "gold"),
        ("body:service_tier", 1),
        ("x-smg-priority", "vip"),
        ("x-llm-d-slo-ttft-ms", "fast"),
        ("x-slo-tpot-ms", "-1"),
        ("x-litellm-timeout", "inf"),
        ("x-sundog-deadline", "-0.1"),
        ("x-sundog-deadline", "1h"),
        ("x-sundog-budget", "$5"),
        ("x-dynamo-session-final", "maybe"),
    ],
)
def test_values_that_cannot_be_read_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Refusal) as caught:
        asked({name: value})
    plain = name.removeprefix("body:")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, plain, "invalid_value")
    assert f"'{plain}'" in caught.value.message


def test_the_session_of_an_address_is_read_as_others_are() -> None:
    with pytest.raises(Refusal, match="'path' has 513 characters"):
        told_of({}, {}, "s" * 513)


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(["1", "-1", "1e400", "true", "s"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
FIELDS = sorted(
    {name.removeprefix("body:") for name in SESSION_NAMES if name.startswith("body:")}
    | {"priority", "service_tier", "nvext.agent_hints.priority", "nvext.agent_hints.osl", "nvext", "metadata"}
)


@given(
    st.dictionaries(st.sampled_from([*sorted(IDENTITY_HEADERS), "traceparent"]), TEXTS, max_size=4),
    st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), max_size=3),
    st.none() | TEXTS,
)
def test_any_request_tells_something_that_can_be_written_or_is_refused(
    headers: dict[str, str], fields: list[tuple[str, Any]], path_session: str | None
) -> None:
    body: dict[str, Any] = {}
    for path, value in fields:
        body = merged(body, body_with(path, value))
    try:
        told = told_of(headers, body, path_session)
    except Refusal as refusal:
        written = refusal.param or ""
    else:
        written = f"{told.session}{told.parent}{told.tenant}{told.priority}"
    assert json.dumps(written.encode().decode())

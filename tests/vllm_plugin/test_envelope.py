"""The envelope that a request may carry, and what is refused."""

from __future__ import annotations

import json

import pytest

from sundog.engines.vllm.engine import ENVELOPE_ARGUMENT
from sundog.errors import ConfigError
from sundog.vllm_plugin.envelope import ENVELOPE_KEY, BadEnvelope, read_envelope
from sundog.vllm_plugin.options import read_plugin_options

FULL = {
    "flow": "review", "node": "answer", "workflow": "row-7", "turn": 2, "last_turn": False, "prefix_group": "filing-3",
    "steps_to_next_use": 2, "expected_output_tokens": 40, "deadline_s": 30.0, "successor_path_s": 4.5,
    "remaining_steps": 2, "remaining_tokens": 900, "tenant": "audit", "tool": "search",
    "tool_share": 0.75, "expected_pause_s": 1.5, "tier": "flex", "root": "row-1",
}  # fmt: skip


def test_our_engines_write_it_where_the_plugin_reads_it() -> None:
    """Neither room may import the other: the engine also talks to servers on other machines."""
    assert ENVELOPE_ARGUMENT == ENVELOPE_KEY


def test_text_and_object_say_the_same() -> None:
    from_text, from_object = read_envelope({"sundog": json.dumps(FULL)}), read_envelope({"sundog": FULL})
    assert from_text == from_object
    assert from_text is not None
    assert from_text.model_dump() == FULL


@pytest.mark.parametrize("extra_args", [None, {}, {"other": 1}])
def test_no_envelope(extra_args: dict[str, object] | None) -> None:
    assert read_envelope(extra_args) is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("{", "Invalid JSON"),
        ('{"turn": "2"}', "turn: Input should be a valid integer"),
        ('{"turn": -1}', "turn: Input should be greater than or equal to 0"),
        ('{"workflw": "x"}', "workflw: Extra inputs are not permitted"),
        ('{"tool_share": 1.1}', "tool_share: Input should be less than or equal to 1"),
        ('{"deadline_s": 0}', "deadline_s: Input should be greater than 0"),
        ("[]", "Input should be an object"),
        (7, "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_envelope_is_refused_with_its_field(value: object, complaint: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        read_envelope({"sundog": value})
    assert complaint in caught.value.what
    assert "steps_to_next_use" in (caught.value.hint or "")


def test_options_have_defaults() -> None:
    for config in ({}, {"sundog": {}}, object()):
        assert read_plugin_options(config).policy == "vllm_default"


@pytest.mark.parametrize(
    ("entry", "what", "hint"),
    [
        ({"polcy": "fcfs"}, "unknown key 'polcy'", "did you mean 'policy'?"),
        ({"max_steps_kept": 0}, "max_steps_kept: Input should be greater than or equal to 1", "keys: policy"),
        ("fcfs", "Input should be a valid dictionary", "keys: policy"),
    ],
)
def test_a_wrong_option_is_refused(entry: object, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plugin_options({"sundog": entry})
    assert what in caught.value.what
    assert hint in (caught.value.hint or "")

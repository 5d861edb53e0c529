"""The most tokens that answers can have: whatever a body says, a limit holds room for all that a server may make."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sundog.engines.base import Capabilities, Engine
from sundog.serve.doors.models.paying import most_tokens_of_answers
from sundog.serve.wire.errors import Refusal

CONTEXT_TOKENS = 1_000
ENGINE = cast(Engine, SimpleNamespace(capabilities=lambda: Capabilities(CONTEXT_TOKENS, None, False, False, False)))
CHAT = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("body", "num_tokens"),
    [
        ({"input": ["x"]}, 0),
        ({**CHAT, "max_tokens": 9}, 9),
        ({**CHAT, "max_tokens": 9, "max_completion_tokens": 5}, 9),
        ({**CHAT, "max_tokens": 9, "max_completion_tokens": None, "n": 3}, 27),
        ({"prompt": ["a", "b"], "max_tokens": 9, "best_of": 2}, 36),
        ({"prompt": "a", "max_tokens": 9, "input": "a field that servers pass over"}, 9),
        ({**CHAT, "max_tokens": 9, "max_completion_tokens": "100000"}, CONTEXT_TOKENS),
        ({**CHAT, "max_tokens": 9, "max_completion_tokens": -1}, CONTEXT_TOKENS),
        ({**CHAT, "max_tokens": 9.0}, CONTEXT_TOKENS),
    ],
)
def test_all_answers_fit(body: dict[str, Any], num_tokens: int) -> None:
    assert most_tokens_of_answers(body, ENGINE, 1, "m") == num_tokens


@pytest.mark.parametrize("number", ["7", 7.0, -1, 0, True])
def test_a_number_of_answers_that_is_none_is_refused(number: Any) -> None:
    with pytest.raises(Refusal, match="whole number") as caught:
        most_tokens_of_answers({**CHAT, "max_tokens": 9, "n": number}, ENGINE, 1, "m")
    assert (caught.value.status, caught.value.param) == (400, "n")

"""A failure says whether the other side has computed anything: limits give back what was held for a refusal."""

from __future__ import annotations

import pytest

from sundog.engines.base import Usage
from sundog.engines.openai.connection import Connection
from sundog.engines.openai.options import OpenAIOptions
from sundog.engines.openai.protocol.failures import engine_error_of
from sundog.errors import BadResponse, CallError
from sundog.operators.answer_stream import paid
from sundog.secrets import Secrets
from sundog.transport.faults import Broken, Silent, TransportFault, Unreachable

TOO_LONG = '{"error": {"message": "too long", "code": "context_length_exceeded"}}'


@pytest.mark.parametrize(
    ("status", "body", "is_refused"),
    [
        (400, "{}", True),
        (400, TOO_LONG, True),
        (401, "{}", True),
        (408, "{}", False),
        (429, "{}", True),
        (500, "{}", False),
        (503, "{}", True),
        (504, "{}", False),
    ],
)
def test_a_status_says_whether_a_request_was_refused(status: int, body: str, is_refused: bool) -> None:
    assert engine_error_of(status, {}, body, now_s=0.0).is_refused == is_refused


@pytest.mark.parametrize(
    ("fault", "is_refused"), [(Unreachable("no route"), True), (Broken("cut"), False), (Silent("nothing"), False)]
)
def test_a_request_that_was_not_sent_cost_nothing(fault: TransportFault, is_refused: bool) -> None:
    options = OpenAIOptions(model="m", base_url="http://localhost:1/v1")
    connection = Connection(options, "http://localhost:1/v1", Secrets({}))
    assert connection.error_of(fault).is_refused == is_refused


def test_an_answer_that_cannot_be_read_has_taken_its_tokens() -> None:
    with pytest.raises(BadResponse) as failed, paid(Usage(3, 4)):
        raise BadResponse("no JSON")
    assert failed.value.usage == Usage(3, 4)
    assert CallError("other").usage is None

"""The client of Anthropic, unchanged, at `/v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.clients.gateway import MAX_TOKENS, PARAMETERS, Gateway

anthropic = pytest.importorskip("anthropic", reason="the client is not installed: pip install anthropic")

HELLO: Any = [{"role": "user", "content": "Say hello."}]
TOOLS: Any = [{"name": "weather", "description": "the weather of a city", "input_schema": PARAMETERS}]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=f"{gateway.address}/s/agent", api_key="none", max_retries=0) as one:
        yield one


def test_a_message_is_answered_whole_and_as_a_stream(client: Any, gateway: Gateway) -> None:
    asked = {"model": gateway.model, "max_tokens": 8, "messages": HELLO, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        told = stream.get_final_message()
    assert told.content[0].text == whole.content[0].text != ""
    assert (told.stop_reason, told.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_a_tool_is_called_and_its_result_is_answered(client: Any, gateway: Gateway) -> None:
    asked = {"model": gateway.model, "max_tokens": MAX_TOKENS, "tools": TOOLS}
    called = client.messages.create(**asked, messages=HELLO, tool_choice={"type": "any"})
    assert called.stop_reason == "tool_use"
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert (use.name, list(use.input)) == ("weather", ["city"])
    result: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]
    messages = [
        *HELLO,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": result},
    ]
    assert client.messages.create(**asked, messages=messages).content
    with client.messages.stream(**asked, messages=HELLO, tool_choice={"type": "any"}) as stream:
        assert stream.get_final_message().stop_reason == "tool_use"


def test_what_is_wrong_is_told(client: Any, gateway: Gateway) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(model="no-such-model", max_tokens=8, messages=HELLO)
    assert refused.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.create(model=gateway.model, max_tokens=8, messages=[])
    assert client.messages.count_tokens(model=gateway.model, messages=HELLO).input_tokens > 0

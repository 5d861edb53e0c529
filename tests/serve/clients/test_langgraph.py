"""LangGraph with the model of `langchain-openai`, unchanged, over both of the forms that it speaks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve.clients.gateway import MAX_TOKENS, Gateway

langchain_openai: Any = pytest.importorskip(
    "langchain_openai", reason="the client is not installed: pip install langchain-openai"
)
graph: Any = pytest.importorskip("langgraph.graph", reason="LangGraph is not installed: pip install langgraph")
prebuilt: Any = pytest.importorskip("langgraph.prebuilt", reason="LangGraph is not installed: pip install langgraph")
pytestmark = pytest.mark.parametrize("is_responses", [False, True], ids=["chat", "responses"])

CITY: dict[str, Any] = {
    "title": "place",
    "description": "a place",
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def model(gateway: Gateway, *, is_responses: bool) -> Any:
    return langchain_openai.ChatOpenAI(
        base_url=f"{gateway.address}/s/agent/v1",
        api_key="none",
        model=gateway.model,
        max_retries=0,
        max_tokens=MAX_TOKENS,
        temperature=0,
        use_responses_api=is_responses,
    )


def agent(gateway: Gateway, *, is_responses: bool) -> Any:
    """A model that calls a tool once, and then says what it likes."""
    asked = model(gateway, is_responses=is_responses)
    calling, saying = asked.bind_tools([weather], tool_choice="required"), asked

    def step(state: Any) -> Any:
        messages = state["messages"]
        return {"messages": [(calling if len(messages) == 1 else saying).invoke(messages)]}

    built = graph.StateGraph(graph.MessagesState)
    built.add_node("model", step)
    built.add_node("tools", prebuilt.ToolNode([weather]))
    built.add_edge(graph.START, "model")
    built.add_conditional_edges("model", lambda state: "tools" if len(state["messages"]) == 2 else graph.END)
    built.add_edge("tools", "model")
    return built.compile()


def test_an_agent_uses_its_tool(gateway: Gateway, is_responses: bool) -> None:
    asked = {"messages": [("user", "How is the weather?")]}
    app = agent(gateway, is_responses=is_responses)
    messages = app.invoke(asked)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[2].content.startswith("sunny in ")
    assert messages[3].text
    pieces = [piece for piece, _ in app.stream(asked, stream_mode="messages") if piece.type == "AIMessageChunk"]
    assert any(piece.tool_call_chunks for piece in pieces)
    assert any(piece.text for piece in pieces)


def test_an_answer_has_the_shape_that_is_asked_for(gateway: Gateway, is_responses: bool) -> None:
    asked = model(gateway, is_responses=is_responses)
    for method in ("json_schema", "function_calling"):
        assert list(asked.with_structured_output(CITY, method=method).invoke("Where?")) == ["city"]

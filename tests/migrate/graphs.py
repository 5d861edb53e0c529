"""Graphs of LangGraph that the tests import."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph


class Model(FakeListChatModel):
    """A model that says where it is, as those of servers do."""

    model_name: str = "tiny"
    openai_api_base: str = "http://localhost:8000/v1"
    temperature: float = 0.5


class State(TypedDict, total=False):
    """The state of the graphs."""

    text: str
    kind: str
    answer: str
    sent: bool


llm = Model(responses=["x"])
RULES = "Be short."


def classify(state: State) -> State:
    """Sort a text."""
    reply = llm.invoke([SystemMessage(content=RULES), HumanMessage(f"What kind? {state['text']}")])
    return {"kind": str(reply.content)}


async def answer(state: State) -> dict[str, Any]:
    prompt = "Answer: " + state["text"]
    return {"answer": (await llm.ainvoke(prompt)).content}


def refuse(state: State) -> dict[str, Any]:
    if state["kind"] == "rude":
        return {"answer": "no", "sent": False}
    return {"answer": "no"}


def send(state: State) -> dict[str, Any]:
    return {"sent": len(state["answer"]) > 0}


def everything(state: State) -> dict[str, Any]:
    return dict(state)


def route(state: State) -> str:
    return "question" if state.get("kind") == "question" else "other"


def built(*edges: tuple[str, str], **nodes: Any) -> Any:
    builder = StateGraph(State)
    for name, function in nodes.items():
        builder.add_node(name, function)
    for edge in edges:
        builder.add_edge(*edge)
    return builder


triage = built(
    (START, "classify"), ("answer", "send"), ("refuse", "send"), ("send", END),
    classify=classify, answer=answer, refuse=refuse, send=send,
)  # fmt: skip
triage.add_conditional_edges("classify", route, {"question": "answer", "other": "refuse"})
graph = triage.compile()
chosen = built(("answer", END), ("refuse", END), answer=answer, refuse=refuse)
chosen.add_conditional_edges(START, route, {"question": "answer", "other": "refuse"})
circle = built((START, "classify"), ("classify", "send"), ("send", "classify"), classify=classify, send=send)
opaque = built((START, "a"), ("a", "b"), ("b", END), a=everything, b=lambda state: {"kind": "x"})
lost = built((START, "a"), ("a", END), a=lambda state: {"kind": "x"})

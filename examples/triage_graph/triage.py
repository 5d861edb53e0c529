"""A LangGraph graph over rows: the graph is as anyone would write it, and knows nothing of sundog.

python triage.py tickets.jsonl
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

import sundog as sd

HERE = Path(__file__).parent


class Ticket(TypedDict, total=False):
    id: int
    text: str
    summary: str
    reply: str


def triage_graph() -> Any:
    """Return a graph of two model calls: a summary, then a reply to it."""
    model = ChatOpenAI(model="local", api_key=SecretStr("none"), temperature=0, max_completion_tokens=40)

    async def summarize(ticket: Ticket) -> Ticket:
        answer = await model.ainvoke(f"Summarize this ticket in one line: {ticket['text']}")
        return {"summary": str(answer.content)}

    async def reply(ticket: Ticket) -> Ticket:
        answer = await model.ainvoke(f"Write one friendly sentence in reply to: {ticket['summary']}")
        return {"reply": str(answer.content)}

    graph: Any = StateGraph(Ticket)
    graph.add_node("summarize", summarize)
    graph.add_node("reply", reply)
    graph.add_edge(START, "summarize")
    graph.add_edge("summarize", "reply")
    graph.add_edge("reply", END)
    return graph.compile()


async def triage(tickets: list[Ticket], **options: Any) -> list[Any]:
    """Run the graph over tickets. Equal calls are made once, and a repeated call goes on where one was broken off."""
    return await sd.agents.map(triage_graph().ainvoke, tickets, name="triage", **options)


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    for end in asyncio.run(triage([json.loads(line) for line in lines], engines=HERE / "engines.yaml")):
        print(json.dumps(end.value) if end.error is None else f"failed: {end.error}")

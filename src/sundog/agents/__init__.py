"""Agents of any framework over rows: each row is a program of the gateway, and what has ended is kept.

    ends = await sundog.agents.map(graph.ainvoke, rows, engines="engines.yaml")

Owns the public names.
"""

from sundog.agents.mapping import AgentEnd, map

__all__ = ["AgentEnd", "map"]

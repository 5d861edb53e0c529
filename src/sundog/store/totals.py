"""Totals of calls and tokens that the store keeps of each step of a run.

Owns reading them. They are written with the rows and the results, by store.writer.
"""

from __future__ import annotations

from dataclasses import dataclass

from sundog.store.store import Store


@dataclass(frozen=True, slots=True)
class NodeTotals:
    """One node's calls and tokens in one run: asked for by finished rows, and executed."""

    node: str
    num_asked: int = 0
    num_asked_prompt_tokens: int = 0
    num_asked_output_tokens: int = 0
    num_executed: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0


def node_totals(store: Store, run_id: str) -> dict[str, NodeTotals]:
    """Return what each step of a run asked for and what of it was executed, by the step's name."""
    asked = {
        node: values
        for node, *values in store.select(
            "select node, sum(num_calls), sum(num_prompt_tokens), sum(num_output_tokens) from asked"
            " where run_id = ? group by node",
            (run_id,),
        )
    }
    executed = {
        node: values
        for node, *values in store.select(
            "select node, num_calls, num_prompt_tokens, num_cached_tokens, num_output_tokens"
            " from executed where run_id = ?",
            (run_id,),
        )
    }
    return {
        node: NodeTotals(node, *asked.get(node, (0, 0, 0)), *executed.get(node, (0, 0, 0, 0)))
        for node in {**asked, **executed}
    }

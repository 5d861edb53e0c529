"""The names and attributes of spans, by the GenAI conventions of OpenTelemetry (semantic-conventions-genai 0.1.0).

Owns these words. What has no word there begins with `sundog.`. Never starts a span.
"""

from __future__ import annotations

from sundog.engines.base import Usage
from sundog.ir.pool_names import label_of
from sundog.sched.events import RequestArrived

Attributes = dict[str, str | int | bool]
PROVIDERS = {"openai": "openai", "vllm": "vllm"}
"""By kind of an engine; the others are named after their kind."""


def span_name(operation: str, target: str) -> str:
    return f"{operation} {target}"


def call_attributes(arrived: RequestArrived, operation: str, model: str, kind: str) -> Attributes:
    """Return what is known of a call before it is made. `model` and `kind`: of its engine, "" for a tool."""
    facts = arrived.facts
    told: Attributes = {"gen_ai.operation.name": operation, "sundog.engine": label_of(arrived.pool)}
    if model:
        told |= {"gen_ai.request.model": model, "gen_ai.provider.name": PROVIDERS.get(kind, f"sundog.{kind}")}
    else:
        told["gen_ai.tool.name"] = facts.node
    named = {
        "gen_ai.workflow.name": facts.flow,
        "sundog.step": facts.node,
        "sundog.tenant": facts.tenant,
        # What is no row's belongs to a program, whose id its client gave.
        "gen_ai.conversation.id": "" if facts.flow else arrived.workflow_id.partition("/")[2],
    }
    return told | {name: value for name, value in named.items() if value}


def usage_attributes(usage: Usage | None) -> Attributes:
    """Return what a call has taken."""
    if usage is None:
        return {}
    told: Attributes = {
        "gen_ai.usage.input_tokens": usage.num_prompt_tokens,
        "gen_ai.usage.output_tokens": usage.num_output_tokens,
    }
    if usage.num_cached_tokens is not None:
        told["gen_ai.usage.cache_read.input_tokens"] = usage.num_cached_tokens
    return told

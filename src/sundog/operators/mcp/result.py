"""The value of an mcp step: what a tool's result says.

Owns the reading of parts and the check against the tool's own schema. Never decides what a failure means for an effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sundog.errors import OperatorError
from sundog.ir.schemas.answer_check import find_answer_mistake
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.operators.mcp.catalog import ListedTool

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MAX_RESULT_BYTES = 2**20


def tool_value(result: CallToolResult, tool: ListedTool | None, *, is_effect: bool) -> dict[str, Any]:
    """Return `{text, json, parts, misfit}`; OperatorError for a result that is too long or no value."""
    text = "\n".join(_texts(result))
    parts = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in _others(result)]
    value: dict[str, Any] = {"text": text, "json": _json(result, text), "parts": parts, "misfit": _misfit(result, tool)}
    try:
        value.update(normal_form(value))
    except NoNormalForm as error:
        raise OperatorError(f"the tool's result is no value: {error}", is_outcome_unknown=is_effect) from None
    # Many servers send one result twice, as text and as data.
    num_bytes = max(_num_bytes(value["json"]), _num_bytes([text, parts]))
    if num_bytes > MAX_RESULT_BYTES:
        raise OperatorError(
            f"the tool's result has {num_bytes:,} bytes, more than {MAX_RESULT_BYTES:,}",
            hint="ask the tool for less",
            is_outcome_unknown=is_effect,
        )
    return value


def tool_error(result: CallToolResult) -> OperatorError:
    """Return the failure of a tool that says itself that it failed."""
    text = " ".join("\n".join(_texts(result)).split())
    if not text and result.structured_content:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    return OperatorError(f"the tool failed: {text[:1000]}" if text else "the tool failed, and says no more")


def _num_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _texts(result: CallToolResult) -> Iterator[str]:
    from mcp_types import EmbeddedResource, ResourceLink, TextContent, TextResourceContents

    for part in result.content:
        match part:
            case TextContent():
                yield part.text
            case EmbeddedResource(resource=TextResourceContents() as resource):
                yield resource.text
            case ResourceLink():
                yield str(part.uri)


def _others(result: CallToolResult) -> list[Any]:
    """Return the parts that are no text: images, sounds, files and links."""
    from mcp_types import EmbeddedResource, TextContent, TextResourceContents

    return [
        part
        for part in result.content
        if not isinstance(part, TextContent)
        and not (isinstance(part, EmbeddedResource) and isinstance(part.resource, TextResourceContents))
    ]


def _json(result: CallToolResult, text: str) -> Any:
    """Return what the tool gives as data; else the JSON value of its text, None where it has none."""
    if result.structured_content is not None:
        return result.structured_content
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _misfit(result: CallToolResult, tool: ListedTool | None) -> str | None:
    if tool is None or tool.output is None:
        return None
    if result.structured_content is None:
        return "the tool has an output schema, and gave no data"
    try:
        return find_answer_mistake(result.structured_content, json.dumps(tool.output))
    except (ValueError, RecursionError) as error:
        return f"it cannot be checked: {error}"

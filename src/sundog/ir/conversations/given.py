"""Messages that a row holds: read, and refused where no engine could be sent them.

Owns their form, which is that of an agent's `messages` and of OpenAI's. A wrong message fails its row before any engine
is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sundog.errors import OperatorError
from sundog.ir.conversations.written import FROM, PART_ROLES, WrittenDetail, WrittenKind
from sundog.ir.templates.render import Scope, render_json, render_text
from sundog.ir.templates.spending import MAX_CHARACTERS
from sundog.ir.templates.template import Template

ROLES = ("system", "user", "assistant", "tool")
KEYS = ("role", "content", "tool_calls", "tool_call_id")
MAX_MESSAGES = 10_000
"""The most messages of one call."""


@dataclass(frozen=True, slots=True)
class GivenCall:
    """The call of a tool in a message of an assistant."""

    id: str
    name: str
    #: JSON text.
    arguments: str


@dataclass(frozen=True, slots=True)
class GivenPart:
    """A part of a message beside its first text."""

    kind: WrittenKind
    #: The text, or what names or holds a picture or a document.
    text: str
    detail: WrittenDetail | None = None


@dataclass(frozen=True, slots=True)
class GivenMessage:
    """One message, rendered."""

    role: str
    content: str
    tool_calls: tuple[GivenCall, ...] = ()
    #: The call whose result a message of the role `tool` is.
    tool_call_id: str | None = None
    #: The parts that follow the content.
    parts: tuple[GivenPart, ...] = ()

    @property
    def text(self) -> str:
        """Return all that a model reads of it."""
        parts = (part.text for part in self.parts)
        return "".join((self.content, *parts, *(f"{call.name}{call.arguments}" for call in self.tool_calls)))


class _Mistake(Exception):
    """Raised where a message is wrong, with the end of a sentence that names it; caught by `given_messages`."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


def rendered_conversation(conversation: Iterable[tuple[str, Template]], scope: Scope) -> tuple[GivenMessage, ...]:
    """Return the messages of one row. OperatorError where a template cannot be rendered, or gives what is no list of
    messages, or where all of them together are none that an engine takes."""
    found: list[GivenMessage] = []
    has_system = False
    for role, template in conversation:
        if role in PART_ROLES:
            part = GivenPart(PART_ROLES[role][0], _part_text(role, template, scope), PART_ROLES[role][1])
            found[-1] = replace(found[-1], parts=(*found[-1].parts, part))
            continue
        if role != FROM:
            has_system = has_system or role == "system"
            found.append(GivenMessage(role, render_text(template, scope)))
            continue
        given = given_messages(template, scope)
        if has_system and any(message.role == "system" for message in given):
            hint = "leave it out in the flow, or in the list: | rejectattr('role', 'equalto', 'system') | list"
            raise OperatorError(f"'system' is given twice: in the flow and in {_shown(template)}", hint=hint)
        found += given
    _check_whole(found)
    return tuple(found)


def _part_text(role: str, template: Template, scope: Scope) -> str:
    kind = PART_ROLES[role][0]
    if kind == "text":
        return render_text(template, scope)
    value = render_json(template, scope)
    if not isinstance(value, str) or not value:
        shown = "an empty text" if value == "" else _kind(value)
        hint = "give a file's path, an address, or the bytes; a row without one may be dropped with a filter"
        raise OperatorError(f"{_shown(template)} must give {_A[kind]}, and gives {shown}", hint=hint)
    return value


_A = {"image": "an image", "file": "a file"}


def given_messages(template: Template, scope: Scope) -> list[GivenMessage]:
    """Return the messages that a template gives for one row; OperatorError where it gives anything else."""
    value = render_json(template, scope)
    if not isinstance(value, list):
        hints = {"null": f"write `{_inner(template)} or []` where a row may have none", "text": _TEXT_HINT}
        what = f"{_shown(template)} must give a list of messages, and gives {_kind(value)}"
        raise OperatorError(what, hint=hints.get(_kind(value)))
    if len(value) > MAX_MESSAGES:
        raise OperatorError(f"{_shown(template)} gives {len(value):,} messages; at most {MAX_MESSAGES:,} are sent")
    found = []
    for number, one in enumerate(value, start=1):
        try:
            found.append(_message(one))
        except _Mistake as mistake:
            raise OperatorError(f"message {number} of {_shown(template)} {mistake}", hint=mistake.hint) from None
    return found


_TEXT_HINT = "a column of a CSV file holds text: read the rows from jsonl or parquet, where a list is a list"


def _message(value: Any) -> GivenMessage:
    if not isinstance(value, dict):
        raise _Mistake(f"is no mapping but {_kind(value)}", "write {role: user, content: ...}")
    said = {key: one for key, one in value.items() if one is not None}
    unknown = [key for key in said if key not in KEYS]
    if unknown:
        raise _Mistake(f"has '{unknown[0]}', which engines are not given", f"known are: {', '.join(KEYS)}")
    role = said.get("role")
    if role not in ROLES:
        shown = "has no role" if role is None else f"has the role {str(role)[:80]!r}"
        raise _Mistake(shown, f"roles are: {', '.join(ROLES)}")
    calls = _calls(said.get("tool_calls", []), role)
    content = said.get("content", "" if calls else None)
    if not isinstance(content, str):
        kind = "no content" if content is None else f"{_kind(content)} as its content"
        raise _Mistake(f"has {kind}", "the content of a message is text; `| tojson` makes text of a value")
    return GivenMessage(role, content, calls, _answered(said.get("tool_call_id"), role))


def _calls(value: Any, role: str) -> tuple[GivenCall, ...]:
    if not isinstance(value, list):
        raise _Mistake("has 'tool_calls' that are no list")
    if value and role != "assistant":
        raise _Mistake(f"has 'tool_calls', and its role is {role}", "only an assistant calls tools")
    return tuple(map(_call, value))


def _call(value: Any) -> GivenCall:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        raise _Mistake("has a tool call that is no mapping", _CALL_HINT)
    texts = [value.get("id"), inner.get("name"), inner.get("arguments", "{}")]
    for name, text in zip(("id", "name", "arguments"), texts, strict=True):
        if not isinstance(text, str) or not text:
            raise _Mistake(f"has a tool call whose '{name}' is no text", _CALL_HINT)
    return GivenCall(*texts)


_CALL_HINT = "a call is {id, name, arguments}, with the arguments as JSON text"


def _answered(value: Any, role: str) -> str | None:
    if role != "tool" and value is not None:
        raise _Mistake(f"has a 'tool_call_id', and its role is {role}", "only a message of the role tool has one")
    if role == "tool" and (not isinstance(value, str) or not value):
        raise _Mistake("has the role tool and no 'tool_call_id'", "it names the call whose result this is")
    return None if value is None else str(value)


def _check_whole(messages: Sequence[GivenMessage]) -> None:
    """Raise OperatorError for messages that are well by themselves, and are no conversation."""
    if not messages:
        raise OperatorError("there is no message: the list is empty", hint="give the row one, or drop it with a filter")
    if len(messages) > MAX_MESSAGES:
        raise OperatorError(f"there are {len(messages):,} messages; at most {MAX_MESSAGES:,} are sent")
    if sum(len(message.text) for message in messages) > MAX_CHARACTERS:
        raise OperatorError(f"the messages have more than {MAX_CHARACTERS:,} characters together")
    open_calls: set[str] = set()
    for number, message in enumerate(messages, start=1):
        if message.role != "tool":
            open_calls = {call.id for call in message.tool_calls}
        elif message.tool_call_id not in open_calls:
            raise OperatorError(
                f"message {number} answers the call {message.tool_call_id!r}, which no assistant made just before",
                hint="results follow the message with their `tool_calls`, each once",
            )
        else:
            open_calls.discard(message.tool_call_id)


def _kind(value: Any) -> str:
    """Return the kind of a JSON value as a user says it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return "a number"


def _shown(template: Template) -> str:
    return template.source if len(template.source) <= 80 else f"{template.source[:77]}..."


def _inner(template: Template) -> str:
    return _shown(template).strip().removeprefix("{{").removesuffix("}}").strip()

"""The messages of a step as a flow writes them: each in full, or all that a template gives.

Owns their form. What a template gives is read by `given`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from sundog.ir.templates.template import Template

FROM = "from"
"""In the place of a role: the template gives a list of messages, and each has its own."""
PromptRole = Literal["system", "user", "assistant"]
Conversation = Sequence[tuple[str, Template]]
"""Messages in the order in which an engine sees them: a role and its text, or FROM and a list of messages."""


class WrittenMessage(BaseModel):
    """One message given in full."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    role: PromptRole
    content: Template


def _check_expression(template: Template) -> Template:
    if not template.is_expression:
        raise ValueError("must be one expression between {{ and }} that gives a list of messages")
    return template


class GivenMessages(BaseModel):
    """Messages that a template gives as a list, for each row its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)
    from_: Annotated[Template, AfterValidator(_check_expression)] = Field(alias="from")

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > 1:
            raise ValueError(f"'{FROM}' stands alone: each message of the list has its own role and content")
        return data


def _form_of(value: Any) -> str:
    is_given = isinstance(value, GivenMessages) or (isinstance(value, dict) and FROM in value)
    return "given messages" if is_given else "a message"


def _listed(value: Any) -> Any:
    """Return a template in the place of the list as a list of what it gives."""
    return ({FROM: value},) if isinstance(value, str | Template) else value


Messages = Annotated[
    tuple[
        Annotated[
            Annotated[WrittenMessage, Tag("a message")] | Annotated[GivenMessages, Tag("given messages")],
            Discriminator(_form_of),
        ],
        ...,
    ],
    BeforeValidator(_listed),
]
"""A field for them: a list, or one template that gives it."""


def check_prompt(kind: str, prompt: Template | None, system: Template | None, messages: Messages) -> None:
    """Raise ValueError where a step of `kind` does not say exactly once what it asks."""
    if (prompt is None) == (not messages):
        raise ValueError(f"{kind} has exactly one of 'prompt' and 'messages'")
    written = (message for message in messages if isinstance(message, WrittenMessage))
    if system is not None and any(message.role == "system" for message in written):
        raise ValueError("'system' is given twice: as a key and in 'messages'")


def conversation_of(
    prompt: Template | None, system: Template | None, messages: Messages
) -> Iterator[tuple[str, Template]]:
    """Yield the messages in the order in which the engine sees them."""
    if system is not None:
        yield "system", system
    if prompt is not None:
        yield "user", prompt
    for message in messages:
        match message:
            case WrittenMessage(role=role, content=content):
                yield role, content
            case GivenMessages(from_=template):
                yield FROM, template

"""The messages of a step as a flow writes them: each in full, or all that a template gives.

Owns their form. What a template gives is read by `given`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from sundog.ir.templates.template import Template

FROM = "from"
"""In the place of a role: the template gives a list of messages, and each has its own."""
PromptRole = Literal["system", "user", "assistant"]
WrittenDetail = Literal["auto", "low", "high"]
WrittenKind = Literal["text", "image", "file"]
PART_ROLES: Mapping[str, tuple[WrittenKind, WrittenDetail | None]] = {
    "text": ("text", None),
    "image": ("image", None),
    "image:auto": ("image", "auto"),
    "image:low": ("image", "low"),
    "image:high": ("image", "high"),
    "file": ("file", None),
}
"""In the place of a role: a further part of the message before, of this kind and with this detail."""
Conversation = Sequence[tuple[str, Template]]
"""The messages for an engine, in order: a role and a text, one of PART_ROLES and what gives the part, or FROM and a
list of messages."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, data: Any) -> Any:
        if isinstance(data, dict) and len({"text", "image", "file"} & data.keys()) != 1:
            raise ValueError("a part of a message has exactly one of 'text', 'image' and 'file'")
        return data


class WrittenText(_Part):
    """A piece of a message's text."""

    text: Template


class WrittenImage(_Part):
    """A picture: a file of the flow's folder, an address, or the bytes themselves in base64."""

    image: Template
    #: The care with which a model looks at it, None for the server's own.
    detail: WrittenDetail | None = None


class WrittenFile(_Part):
    """A PDF document: a file of the flow's folder, or the bytes themselves in base64."""

    file: Template


WrittenPart = WrittenText | WrittenImage | WrittenFile


def _kind_of_part(value: Any) -> str:
    match value:
        case WrittenImage() | {"image": _}:
            return "a picture"
        case WrittenFile() | {"file": _}:
            return "a document"
    return "a piece of text"


def _form_of_content(value: Any) -> str:
    return "parts" if isinstance(value, list | tuple) else "one text"


def _refuse_empty(parts: Any) -> Any:
    if not parts:
        raise ValueError("must not be an empty list")
    return parts


Parts = Annotated[
    tuple[
        Annotated[
            Annotated[WrittenText, Tag("a piece of text")]
            | Annotated[WrittenImage, Tag("a picture")]
            | Annotated[WrittenFile, Tag("a document")],
            Discriminator(_kind_of_part),
        ],
        ...,
    ],
    BeforeValidator(_refuse_empty),
]


class WrittenMessage(BaseModel):
    """One message given in full."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    role: PromptRole
    content: Annotated[
        Annotated[Template, Tag("one text")] | Annotated[Parts, Tag("parts")], Discriminator(_form_of_content)
    ]


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
                yield from ((role, content),) if isinstance(content, Template) else _spread(role, content)
            case GivenMessages(from_=template):
                yield FROM, template


def kinds_of_parts(messages: Messages) -> frozenset[str]:
    """Return the kinds of parts beside text that messages of a flow have."""
    found = (message.content for message in messages if isinstance(message, WrittenMessage))
    parts = [part for content in found if not isinstance(content, Template) for part in content]
    images = {"image" for part in parts if isinstance(part, WrittenImage)}
    return frozenset(images | {"file" for part in parts if isinstance(part, WrittenFile)})


def _spread(role: str, parts: Sequence[WrittenPart]) -> Iterator[tuple[str, Template]]:
    """Yield a message of parts: its first text, empty where it begins with none, and then the others."""
    first, *others = parts
    if isinstance(first, WrittenText):
        yield role, first.text
    else:
        yield role, Template("")
        others = list(parts)
    for part in others:
        match part:
            case WrittenText(text=text):
                yield "text", text
            case WrittenImage(image=image, detail=detail):
                yield "image" if detail is None else f"image:{detail}", image
            case WrittenFile(file=file):
                yield "file", file

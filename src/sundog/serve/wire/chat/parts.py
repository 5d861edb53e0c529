"""The content of a message as a body has it: a text, or a list of texts, pictures and documents.

Owns their reading, from what the request itself holds. Never opens an address.
"""

from __future__ import annotations

from collections.abc import Set
from functools import partial
from hashlib import sha256
from typing import Any, cast

from sundog.engines.message_parts import Detail, FilePart, ImagePart, MessagePart, PartKind, TextPart
from sundog.errors import OperatorError
from sundog.operators.media import TAKEN, image_type, is_pdf
from sundog.operators.media_address import decoded, is_data_address, web_address
from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string


def content_parts(message: Fields, kinds: Set[PartKind]) -> tuple[str, tuple[MessagePart, ...]]:
    """Return a message's content as text, or as parts where it is more than text. `kinds`: the parts that the engine
    takes beside text."""
    content = message.value("content")
    if content is None or isinstance(content, str):
        return ("" if content is None else whole_string(content, message.place("content"))), ()
    parts = tuple(_part(part, kinds) for part in message.objects("content"))
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    # Servers join the texts of a list in this way for chat templates that take text only.
    return ("\n".join(texts), ()) if len(texts) == len(parts) else ("", parts)


def _part(part: Fields, kinds: Set[PartKind]) -> MessagePart:
    match part.needed_text("type"):
        case "text" | "input_text" | "output_text":
            return TextPart(whole_string(part.value("text"), part.place("text")))
        case "refusal":
            return TextPart(whole_string(part.value("refusal"), part.place("refusal")))
        case "image_url" if "image" in kinds:
            return _image(part)
        case "file" if "file" in kinds:
            return _file(part.inner("file"))
        case kind:
            return refuse_field(f"this model takes no parts of the type '{kind}'", part.place("type"))


def _image(part: Fields) -> ImagePart:
    written: Any = part.value("image_url")
    picture = Fields({"url": written}, part.path) if isinstance(written, str) else part.inner("image_url")
    url, place = picture.needed_text("url"), picture.place("url")
    detail = cast(Detail | None, picture.one_of("detail", ("auto", "low", "high")))
    if not is_data_address(url):
        return ImagePart(url=_address(url, place), detail=detail)
    data = _bytes(url, place)
    found = image_type(data)
    if found is None:
        refuse_field(f"'{place}' holds no picture that models take ({TAKEN})", place)
    return ImagePart(sha256(data).hexdigest(), found[0], "", detail, partial(bytes, data), found[1])


def _address(url: str, place: str) -> str:
    try:
        address = web_address(url, f"'{place}'")
    except OperatorError as error:
        refuse_field(error.what, place)
    if address is None:
        refuse_field(f"'{place}' is no address: write an https address, or data:image/png;base64,...", place)
    return address


def _file(file: Fields) -> FilePart:
    if file.value("file_id") is not None:
        refuse_field("files are not read by their ids here: send 'file_data'", file.place("file_id"))
    place = file.place("file_data")
    data = _bytes(file.needed_text("file_data"), place)
    if not is_pdf(data):
        refuse_field(f"'{place}' holds no PDF document", place)
    name = file.text("filename") or "document.pdf"
    return FilePart(sha256(data).hexdigest(), "application/pdf", name, partial(bytes, data), len(data))


def _bytes(source: str, place: str) -> bytes:
    try:
        return decoded(source)
    except OperatorError as error:
        refuse_field(f"'{place}': {error.what}", place)

"""Pictures and documents of messages: found, looked at, and known by the hash of what they hold.

Owns where they may come from: files of the flow's folder, addresses, and bytes in base64. A file's bytes are not kept:
they are read again when the request goes out, and must still be the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from sundog.engines.base import Message
from sundog.engines.message_parts import FilePart, ImagePart, MessagePart, UnreadPart
from sundog.errors import OperatorError
from sundog.operators.media import TAKEN, image_type, is_pdf
from sundog.operators.media_address import decoded, is_data_address, web_address

MAX_PART_BYTES = 20 * 2**20
MAX_CALL_BYTES = 50 * 2**20
"""The most bytes of all pictures and documents of one call."""
_NAMES_SHOWN = 100


async def read_parts(messages: Sequence[Message], folder: Path) -> tuple[Message, ...]:
    """Return messages whose pictures and documents have been looked at; OperatorError for one that is none."""
    return await asyncio.to_thread(_read_all, messages, folder)


def _read_all(messages: Sequence[Message], folder: Path) -> tuple[Message, ...]:
    num_bytes = 0
    found: list[Message] = []
    for message in messages:
        parts: list[MessagePart] = []
        for part in message.parts:
            if isinstance(part, UnreadPart):
                read, size = _looked_at(part, folder)
                parts.append(read)
                num_bytes += size
            else:
                parts.append(part)
        found.append(replace(message, parts=tuple(parts)))
    if num_bytes > MAX_CALL_BYTES:
        raise OperatorError(f"the images and files have more than {MAX_CALL_BYTES // 2**20} MiB together")
    return tuple(found)


def _looked_at(part: UnreadPart, folder: Path) -> tuple[ImagePart | FilePart, int]:
    if (address := web_address(part.source, _named(part))) is not None:
        if part.kind == "file":
            hint = "engines take addresses of images only: put the document into the flow's folder"
            raise OperatorError(f"the file {_shown(part.source)} is an address", hint=hint)
        return ImagePart(url=address, detail=part.detail), 0
    again: Callable[[], bytes]
    data = _written_out(part.source)
    if data is None:
        path = _inside(part, folder)
        data = _read_file(part, path)
        again = partial(_read_again, part, path, sha256(data).digest())
    else:
        again = partial(decoded, part.source)
    _refuse_large(part, len(data))
    if not data:
        raise OperatorError(f"{_named(part)} is empty")
    digest = sha256(data).hexdigest()
    if part.kind == "file":
        if not is_pdf(data):
            raise OperatorError(f"{_named(part)} is no PDF document", hint="the text of others can stand in the prompt")
        return FilePart(digest, "application/pdf", "document.pdf", again, len(data)), len(data)
    image = image_type(data)
    if image is None:
        raise OperatorError(f"{_named(part)} is no image that servers take ({TAKEN})")
    return ImagePart(digest, image[0], "", part.detail, again, image[1]), len(data)


def _written_out(source: str) -> bytes | None:
    """Return the bytes that a text holds: those of a `data:` address, or of base64 that is a picture or a document;
    None for any other text, which is a path."""
    if is_data_address(source) or len(source) > _LONGEST_PATH:
        return decoded(source)
    try:
        data = decoded(source)
    except OperatorError:
        return None
    return data if is_pdf(data) or image_type(data) is not None else None


_LONGEST_PATH = 4_096


def _inside(part: UnreadPart, folder: Path) -> Path:
    try:
        path = (folder / part.source).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise OperatorError(f"{_named(part)} cannot be read: {error}") from error
    if not path.is_relative_to(folder.resolve()):
        hint = "files are read from that folder and those below it; links that lead out of it are not followed"
        raise OperatorError(f"{_named(part)} is not in the flow's folder", hint=hint)
    return path


def _read_file(part: UnreadPart, path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "is not there"
            raise OperatorError(f"{_named(part)} {what}", hint="paths are counted from the flow's folder")
        _refuse_large(part, path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{_named(part)} cannot be read: {error.strerror}") from error


def _read_again(part: UnreadPart, path: Path, digest: bytes) -> bytes:
    data = _read_file(part, path)
    if sha256(data).digest() != digest:
        raise OperatorError(f"{_named(part)} was changed while the run went on", hint="repeat the command")
    return data


def _refuse_large(part: UnreadPart, num_bytes: int) -> None:
    if num_bytes > MAX_PART_BYTES:
        what = f"{_named(part)} has {num_bytes / 2**20:,.1f} MiB; at most {MAX_PART_BYTES // 2**20} are sent"
        raise OperatorError(what)


def _named(part: UnreadPart) -> str:
    return f"the {part.kind} {_shown(part.source)}"


def _shown(source: str) -> str:
    return repr(source if len(source) <= _NAMES_SHOWN else f"{source[: _NAMES_SHOWN - 3]}...")

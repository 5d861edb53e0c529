"""The header of a GGUF file: the few facts about a model that the engine does not tell.

Owns reading key-value metadata. Never reads tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sundog.errors import ConfigError

# Value types of the format, by number; 8 is text and 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


def context_tokens(path: Path) -> int:
    """Return the context length that a GGUF model was made for, in tokens; ConfigError for a file that does not tell
    it."""
    try:
        with path.open("rb") as file:
            architecture = None
            for key, value in _read_metadata(file):
                if key == "general.architecture":
                    architecture = value
                elif key == f"{architecture}.context_length":
                    return int(value)
    except (OSError, struct.error, KeyError) as error:
        raise ConfigError(
            f"not a readable GGUF file: {path} ({error})", hint="pull or copy the weights again"
        ) from error
    raise ConfigError(f"the GGUF file {path} does not name its context length", hint="use another conversion of it")


def _read_metadata(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    magic, _version, _num_tensors, num_keys = _read(file, "4sIQQ")
    if magic != b"GGUF":
        raise struct.error(f"it starts with {magic!r}")
    for _ in range(num_keys):
        key = _read_text(file)
        yield key, _read_value(file, *_read(file, "I"))


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == TEXT:
        return _read_text(file)
    if kind == ARRAY:
        element_kind, length = _read(file, "IQ")
        return [_read_value(file, element_kind) for _ in range(length)]
    return _read(file, SCALARS[kind])[0]


def _read_text(file: BinaryIO) -> str:
    (length,) = _read(file, "Q")
    # Tokens of a vocabulary need not be whole characters.
    return file.read(length).decode("utf-8", "replace")


def _read(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))

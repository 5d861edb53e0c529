"""Prompts in files of their own: `{file: prompt.md}` becomes the file's text, with what the file includes.

Owns reading these files, which lie in the flow's folder and nowhere else, and where in them a text stands. Never
renders.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.errors import FlowError, Location
from sundog.flow.files.in_folder import MAX_FILE_BYTES, read_file_of_flow
from sundog.flow.positions import DataPath, Positions

MAX_PROMPT_BYTES = MAX_FILE_BYTES
MAX_INCLUDES = 1_000
FILE = "file"
# Comments and raw text hide what looks like an include in them.
_TAGS = re.compile(
    r"\{#.*?#\}"
    r"|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}"
    r"|\{%(?P<before>[-+]?)\s*include\b(?P<included>[^%]*?)(?P<after>[-+]?)%\}",
    re.DOTALL,
)
_NAME = re.compile(r"\s*(?P<quote>['\"])(?P<name>[^'\"]+)(?P=quote)\s*")


def prompt_file(path: str | Path) -> dict[str, str]:
    """Return the text of a file as a prompt, a system text or the content of a message; counted from the flow's
    folder."""
    return {FILE: str(path)}


@dataclass(frozen=True, slots=True)
class PromptText:
    """The text of a file with its includes."""

    text: str
    #: For each piece its beginning in `text`, its file, and its place there.
    pieces: tuple[tuple[int, _Source, int], ...]

    def locate(self, index: int) -> Location:
        """Return the file, line and column of a character of `text`."""
        begin, source, offset = self.pieces[bisect_right(self.pieces, index, key=lambda piece: piece[0]) - 1]
        at = offset + index - begin
        return Location(source.name, source.text.count("\n", 0, at) + 1, at - source.text.rfind("\n", 0, at))


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    text: str


class FilePositions:
    """Positions of a flow, and of the prompts that stand in files of their own."""

    def __init__(self, flow: Positions) -> None:
        self._flow = flow
        self._prompts: dict[DataPath, PromptText] = {}

    def add(self, path: DataPath, prompt: PromptText) -> None:
        """Say that the value at `path` is `prompt`."""
        self._prompts[path] = prompt

    def key(self, path: DataPath) -> Location:
        return self._flow.key(path)

    def value(self, path: DataPath) -> Location:
        prompt = self._prompts.get(path)
        return self._flow.value(path) if prompt is None else prompt.locate(0)

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        prompt = self._prompts.get(path)
        if prompt is None:
            return self._flow.match(path, pattern)
        found = pattern.search(prompt.text)
        return prompt.locate(0 if found is None else found.start("at" if "at" in pattern.groupindex else 0))


def with_prompt_files(
    data: Any, path: DataPath, fields: frozenset[str], base_dir: Path, positions: FilePositions
) -> Any:
    """Return what stands below an operator, with the texts of files in place of `{file: ...}` in `fields`, and in the
    `content` of the messages there. FlowError at the place of what cannot be read."""
    if not isinstance(data, Mapping):
        return data
    found = dict(data)
    for name in fields & found.keys():
        found[name] = _replaced(found[name], (*path, name), base_dir, positions)
    return found


def _replaced(value: Any, path: DataPath, base_dir: Path, positions: FilePositions) -> Any:
    match value:
        case {"file": str() as name} if len(value) == 1:
            try:
                prompt = _Reader(base_dir).read(name)
            except FlowError as error:
                where = error.where or positions.value((*path, FILE))
                raise FlowError(error.what, where=where, hint=error.hint) from error
            positions.add(path, prompt)
            return prompt.text
        case {"file": _}:
            hint = "write it as {file: prompt.md}, and nothing beside it"
            raise FlowError("'file' names a file of the flow's folder", where=positions.value((*path, FILE)), hint=hint)
        case list() | tuple():
            return [_replaced(one, (*path, place), base_dir, positions) for place, one in enumerate(value)]
        case {"content": list() | tuple() as parts}:
            # There `file` is a document that the engine reads; only a text may stand in a file of the flow's.
            return {
                **value,
                "content": [
                    _text_replaced(part, (*path, "content", place), base_dir, positions)
                    for place, part in enumerate(parts)
                ],
            }
        case {"content": content}:
            return {**value, "content": _replaced(content, (*path, "content"), base_dir, positions)}
    return value


def _text_replaced(part: Any, path: DataPath, base_dir: Path, positions: FilePositions) -> Any:
    match part:
        case {"text": {} as text}:
            return {**part, "text": _replaced(text, (*path, "text"), base_dir, positions)}
    return part


class _Reader:
    """Reads one prompt with its includes."""

    def __init__(self, base_dir: Path) -> None:
        self._folder = base_dir
        self._pieces: list[tuple[int, _Source, int]] = []
        self._texts: list[str] = []
        self._length = 0
        self._num_includes = 0

    def read(self, name: str) -> PromptText:
        self._append(name, ())
        return PromptText("".join(self._texts), tuple(self._pieces))

    def _append(self, name: str, above: tuple[str, ...], where: Location | None = None) -> None:
        if name in above:
            raise FlowError(f"the prompt file '{name}' includes itself", where=where)
        self._num_includes += 1
        if self._num_includes > MAX_INCLUDES:
            raise FlowError(f"a prompt includes more than {MAX_INCLUDES:,} files", where=where)
        source = _Source(str(self._folder / name), read_file_of_flow(self._folder, name, "prompt file", where))
        begin = 0
        for index, end, included in _includes(source):
            self._add(source, begin, max(begin, index))
            at = PromptText(source.text, ((0, source, 0),)).locate(index)
            self._append(included, (*above, name), at)
            begin = max(begin, end)
        self._add(source, begin, len(source.text))

    def _add(self, source: _Source, begin: int, end: int) -> None:
        self._pieces.append((self._length, source, begin))
        self._texts.append(source.text[begin:end])
        self._length += end - begin
        if self._length > MAX_PROMPT_BYTES:
            raise FlowError(f"the prompt with what it includes is longer than {MAX_PROMPT_BYTES // 2**20} MiB")


def _includes(source: _Source) -> list[tuple[int, int, str]]:
    """Return where `{% include "name" %}` begins and ends in a text, with the space that `{%-` and `-%}` take away, and
    the name. FlowError for an include of another form."""
    found: list[tuple[int, int, str]] = []
    text = source.text
    for tag in _TAGS.finditer(text):
        if tag["included"] is None:
            continue
        name = _NAME.fullmatch(tag["included"])
        if name is None:
            raise FlowError(
                "an include names one file as text",
                where=PromptText(text, ((0, source, 0),)).locate(tag.start()),
                hint='as in {% include "rules.md" %}: which file it is must be known before the run',
            )
        begin = len(text[: tag.start()].rstrip()) if tag["before"] == "-" else tag.start()
        after = text[tag.end() :]
        end = len(text) - len(after.lstrip()) if tag["after"] == "-" else tag.end()
        found.append((begin, end, name["name"]))
    return found

"""An output may not replace what the run reads.

Owns the comparison, by the file itself (links included) and by patterns that would read the output next time. Never
opens a file.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from os.path import realpath
from pathlib import Path

from sundog.errors import ConfigError
from sundog.ir.logical import InputSource
from sundog.runtime.rows.folders.output_folder import OutputFolder
from sundog.runtime.rows.outputs import Output, errors_path, target_of

_QUOTED = re.compile(r"'((?:[^']|'')+)'")


def check_distinct(output: Output, inputs: Sequence[InputSource], base_dir: Path, others: Mapping[Path, str]) -> None:
    """Raise ConfigError where the output, or its errors file, is a file that the run reads, or would be one next time.
    `others`: files that no input names, and what each is, as "the flow"."""
    for path, role in _written(output).items():
        for read, what in others.items():
            _refuse_same(path, role, read, what)
        for source in inputs:
            _check_input(path, role, source, base_dir)


def _written(output: Output) -> dict[Path, str]:
    """Return the files that are written, and what each is; of a folder, those that it always has. None at a URL."""
    if not isinstance(output, OutputFolder):
        return {target_of(output).file: "the output", errors_path(output): "the errors file of the output"}
    if output.path is None:
        return {}
    from sundog.runtime.rows.folders.manifest import MANIFEST, PARTS_ERRORS, part_name

    part = part_name(0, "run", "0" * 64, output.format)
    names = {part: "a part", MANIFEST: "the manifest", PARTS_ERRORS: "the errors file"}
    return {output.path / name: f"{what} of the output" for name, what in names.items()}


def _check_input(path: Path, role: str, source: InputSource, base_dir: Path) -> None:
    what = f"a file of input '{source.name}'"
    for pattern in _patterns(source):
        whole = base_dir / pattern
        if whole.exists() or not glob.has_magic(pattern):
            _refuse_same(path, role, whole, what)
            continue
        for found in glob.iglob(pattern, root_dir=base_dir, recursive=True):  # noqa: PTH207 - as inputs are found
            _refuse_same(path, role, base_dir / found, what)
        if _matches(Path(realpath(path)).parts, Path(_real_pattern(whole)).parts):
            raise ConfigError(
                f"{role} {path} would be {what} in the next run: '{pattern}' matches it",
                hint="write it into another folder, or narrow the pattern",
            )


def _patterns(source: InputSource) -> Iterator[str]:
    """Yield names and patterns of the files that are read; of a query, all its texts: some name files."""
    if source.path is not None:
        yield source.path
    elif source.query is not None:
        yield from (text.replace("''", "'") for text in _QUOTED.findall(source.query) if "\0" not in text)


def _refuse_same(path: Path, role: str, read: Path, what: str) -> None:
    try:
        is_same = realpath(path) == realpath(read) or path.samefile(read)
    except OSError:
        is_same = False
    if is_same:
        raise ConfigError(f"{role} {path} is {what}: it would be replaced", hint="name another output")


def _real_pattern(pattern: Path) -> str:
    """Return `pattern` with the links of its plain folders followed."""
    plain = 0
    while plain < len(pattern.parts) and not glob.has_magic(pattern.parts[plain]):
        plain += 1
    return str(Path(realpath(Path(*pattern.parts[:plain])), *pattern.parts[plain:]))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match as glob does: `**` stands for any folders, `*` does not begin a hidden name."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(_matches(parts[skipped:], rest) for skipped in range(len(parts) + 1))
    if not parts or (parts[0].startswith(".") and not first.startswith(".")):
        return False
    return fnmatchcase(parts[0], first) and _matches(parts[1:], rest)

"""A folder of parts as users name it: a path or a URL with a slash at its end.

Owns the reading of it. Never looks at a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sundog.errors import ConfigError

PartFormat = Literal["jsonl", "parquet"]
_FORMATS: dict[str, PartFormat] = {".jsonl": "jsonl", ".parquet": "parquet"}
_OTHER_FORMATS = (".csv", ".duckdb", ".json", ".ndjson")
SCHEME = "://"


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A folder whose parts hold the rows of a result."""

    #: A path or a URL as it was written, with one slash at its end.
    written: str
    format: PartFormat
    #: The folder where it is one of this machine's; None for what lies at a URL.
    path: Path | None

    def __str__(self) -> str:
        return self.written

    @property
    def identity(self) -> str:
        """The same text for the same folder, whatever the working folder."""
        return self.written if self.path is None else f"{self.path.resolve()}/"

    def file(self, name: str) -> str:
        """Return how a file of it is shown."""
        return f"{self.written}{name}"


@dataclass(frozen=True, slots=True)
class PartOwner:
    """The run and the table whose rows a folder holds."""

    run_id: str
    table: str


def folder_of(written: str) -> OutputFolder | None:
    """Return the folder that is meant by `answers/` or `s3://bucket/answers.jsonl/`, whose name tells the format of the
    parts, Parquet where it has no such end. None for a text that means a file; ConfigError for one that means
    nothing."""
    if not written.endswith("/"):
        if SCHEME in written:
            hint = f"end it with a slash: {written}/"
            raise ConfigError(f"an output at a URL is a folder of parts, and {written} names a file", hint=hint)
        return None
    text = written.rstrip("/")
    if SCHEME not in written:
        return OutputFolder(f"{text}/", _format_of(text), Path(text or "/"))
    scheme, _, rest = written.partition(SCHEME)
    if scheme != "file":
        if not rest.strip("/"):
            raise ConfigError(f"the output {written} names no bucket", hint=f"as in {scheme}://bucket/answers/")
        return OutputFolder(f"{text}/", _format_of(text), None)
    parts = urlsplit(text)
    if parts.netloc or not parts.path:
        raise ConfigError(f"the output {written} is no folder of this machine", hint="as in file:///folder/answers/")
    return OutputFolder(f"{text}/", _format_of(text), Path(url2pathname(parts.path)))


def _format_of(text: str) -> PartFormat:
    suffix = PurePosixPath(text).suffix.lower()
    if suffix in _OTHER_FORMATS:
        hint = "the name of the folder tells their format: answers/ and answers.parquet/, or answers.jsonl/"
        raise ConfigError(f"the parts of the output {text}/ cannot be of the format {suffix[1:]}", hint=hint)
    return _FORMATS.get(suffix, "parquet")

"""The manifest of a folder of parts: which of its files are the result, in the order of the rows.

Owns its form and the names of parts. Never opens a file.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from sundog.errors import ConfigError
from sundog.runtime.rows.folders.output_folder import OutputFolder, PartFormat

MANIFEST = "_manifest.json"
PARTS_ERRORS = "errors.jsonl"
"""The failed rows of the run beside the parts."""
_DIGITS_OF_DIGEST = 12
_PART = re.compile(rf"part-\d{{5,}}-(?P<run_id>.+)-[0-9a-f]{{{_DIGITS_OF_DIGEST}}}\.(?:jsonl|parquet)")


class OutputPart(BaseModel):
    """A file of rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    num_rows: int
    num_bytes: int
    #: The digest of its bytes, in hexadecimal digits.
    sha256: str


class Manifest(BaseModel):
    """The result that a folder holds. Equal rows make an equal manifest."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    #: The table of the flow; "" in a flow of one table.
    table: str
    format: PartFormat
    columns: tuple[str, ...]
    num_rows: int
    #: In the order of the rows.
    parts: tuple[OutputPart, ...]

    def encoded(self) -> bytes:
        """Return its JSON, as it lies in the folder."""
        return to_json(self.model_dump(), indent=2) + b"\n"


def read_manifest(folder: OutputFolder, body: bytes) -> Manifest:
    """Return the manifest that `body` is; ConfigError for anything else."""
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        what = f"{folder.file(MANIFEST)} is no manifest of an output"
        raise ConfigError(what, hint="name another folder, or look who made it and remove it") from error


def part_name(number: int, run_id: str, digest: str, format: PartFormat) -> str:
    """Return the name of a part. Names in their order are the parts in theirs; a name never stands for other bytes, so
    that a reader of an older manifest finds the older parts or none."""
    return f"part-{number:05d}-{run_id}-{digest[:_DIGITS_OF_DIGEST]}.{format}"


def run_of_part(name: str) -> str | None:
    """Return the id of the run whose part has this name; None for another file."""
    found = _PART.fullmatch(name)
    return None if found is None else found["run_id"]

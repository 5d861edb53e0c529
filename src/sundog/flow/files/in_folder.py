"""Files that are part of a flow: prompts and constants.

Owns reading them. They lie in the flow's folder, or below it, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from sundog.errors import FlowError, Location

MAX_FILE_BYTES = 2**20


def read_file_of_flow(folder: Path, name: str, kind: str, where: Location | None = None) -> str:
    """Return the file's text without its last line end, which editors write and nobody means. FlowError for a file
    that is not in the flow's folder, too long, or no text; `kind` is what it is called there."""
    path = _inside(folder, name, kind, where)
    try:
        if not path.is_file():
            raise FlowError(f"the {kind} '{name}' is not there", where=where, hint=f"looked for {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FlowError(f"the {kind} '{name}' is longer than {MAX_FILE_BYTES // 2**20} MiB", where=where)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FlowError(f"the {kind} '{name}' cannot be read: {error.strerror}", where=where) from error
    except UnicodeDecodeError as error:
        raise FlowError(f"the {kind} '{name}' is not UTF-8 text", where=where, hint=f"byte {error.start}") from error
    return text.replace("\r\n", "\n").removesuffix("\n")


def _inside(folder: Path, name: str, kind: str, where: Location | None) -> Path:
    """Return the file's real path; FlowError where that is not in the flow's folder."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise FlowError(f"the {kind} '{name}' cannot be read: {error}", where=where) from error
    if not name or Path(name).is_absolute() or not path.is_relative_to(folder.resolve()):
        what = "prompts are" if kind == "prompt file" else "it is"
        raise FlowError(
            f"the {kind} '{name}' is not in the flow's folder",
            where=where,
            hint=f"{what} read from that folder and those below it; links that lead out of it are not followed",
        )
    return path

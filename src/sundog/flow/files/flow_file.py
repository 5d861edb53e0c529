"""Flow files as data.

Owns reading them. Never knows what a flow is.
"""

from __future__ import annotations

from pathlib import Path

from sundog.errors import FlowError, Location
from sundog.flow.positions import FlowDocument, read_document


def read_flow_file(path: Path) -> FlowDocument:
    """Return the data of a flow file; FlowError with its place for what cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FlowError(f"the flow cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        where = Location(str(path), before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise FlowError(f"the flow is not UTF-8 text: byte 0x{error.object[error.start]:02X}", where=where) from error
    return read_document(text, str(path))

"""The lines of a server's log, as text for people or as JSON for programs.

Owns their form, and that no line has a secret of the configuration or the message of an unforeseen exception, which may
quote what a client has sent. Who logs what, others decide.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any

from sundog.serve.seeing.line_writer import LineWriter

STDERR = 2
IN_MESSAGE = frozenset({"method", "path", "status"})
"""The fields of a request that its message has already."""


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up_logs(form: LogFormat, level: LogLevel, redact: Callable[[str], str]) -> None:
    """Write logs from `level` on to stderr. `redact`: takes secrets out of a text."""
    handler = LineWriter(STDERR)
    handler.setFormatter(JSONLines(redact) if form is LogFormat.JSON else TextLines(redact))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """This class writes a line as people read it: time, level, message, and what is known beside."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        told = " ".join(f"{name}={value}" for name, value in _told_beside(record).items() if name not in IN_MESSAGE)
        return self._redact(f"{line} {told}" if told else line)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name of logging
        return _where_it_happened(*ei)


class JSONLines(logging.Formatter):
    """This class writes a line as one JSON object: `time`, `level`, `logger`, `message`, and what is known beside."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        error = {} if not record.exc_info else {"error": _where_it_happened(*record.exc_info)}
        return self._redact(json.dumps({**head, **_told_beside(record), **error}, ensure_ascii=False))


def _told_beside(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what is known of a record beside its message."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _where_it_happened(
    kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
) -> str:
    """Return the kind of an exception and the lines that it came through, without what it says."""
    name = "an exception" if kind is None else kind.__name__
    return f"{''.join(traceback.format_tb(frames))}{name}".strip()

"""The headers by which a server behind this process knows to which trace a request belongs.

Owns where they are while a call is made. Never makes a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

NO_TRACE: Mapping[str, str] = {}
TRACE_HEADERS: ContextVar[Mapping[str, str]] = ContextVar("sundog.trace_headers", default=NO_TRACE)
"""The headers of the call that the current task makes."""

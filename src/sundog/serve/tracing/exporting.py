"""The way of spans to an OTLP receiver over HTTP, as the variables of OpenTelemetry say.

Owns when traces are on, and that nothing of OpenTelemetry is imported where they are not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.serve.tracing.traces import HostTraces

log = logging.getLogger("sundog.serve")
MAX_SHUTDOWN_S = 2.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAMES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")


def is_wanted(environment: Mapping[str, str], *, is_said: bool) -> bool:
    """Return whether spans are exported: where the user says so, or a receiver is named, and OpenTelemetry is not
    turned off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return is_said or any(environment.get(name) for name in ENDPOINTS)


@asynccontextmanager
async def open_traces(*, is_on: bool) -> AsyncIterator[HostTraces | None]:
    """Yield what traces a host, None where nobody wants that; at the end the last spans leave. ConfigError where the
    packages are not there."""
    if not is_on:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from sundog.serve.tracing.traces import HostTraces
    except ModuleNotFoundError as error:
        hint = "install it: pip install 'sundog[otel]', or leave traces out: OTEL_SDK_DISABLED=true"
        raise ConfigError(f"traces need the package {error.name}, which is not installed", hint=hint) from error
    named = {} if any(os.environ.get(name) for name in NAMES) else {"service.name": "sundog"}
    exporter = OTLPSpanExporter()
    provider = TracerProvider(
        shutdown_on_exit=False, resource=Resource.create({**named, "service.version": version("sundog")})
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield HostTraces(provider, version("sundog"))
    finally:
        await asyncio.to_thread(_shut_down, provider.shutdown, exporter.shutdown)


def _shut_down(send_last: Callable[[], None], give_up: Callable[[], None]) -> None:
    """Send the last spans, for MAX_SHUTDOWN_S at most: a receiver that is away keeps nobody from ending."""
    sending = threading.Thread(target=send_last, name="sundog-last-spans", daemon=True)
    sending.start()
    sending.join(MAX_SHUTDOWN_S)
    if sending.is_alive():
        log.warning("the last spans are lost: their receiver has not taken them within %g s", MAX_SHUTDOWN_S)
        give_up()

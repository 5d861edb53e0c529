"""The way of spans to an OTLP receiver over HTTP, as the variables of OpenTelemetry say.

Owns when traces are on, and that nothing of OpenTelemetry is imported where they are not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.serve.tracing.traces import HostTraces

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
    provider = TracerProvider(resource=Resource.create({**named, "service.version": version("sundog")}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield HostTraces(provider, version("sundog"))
    finally:
        await asyncio.to_thread(provider.shutdown)

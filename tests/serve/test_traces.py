"""Traces of a server: one for each row or program, a span for each call, and nothing of what clients say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sundog.config import Config
from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.serve.app import open_app
from sundog.serve.server import running_server
from sundog.serve.serving import open_serving
from sundog.serve.tracing.exporting import is_wanted, open_traces
from sundog.serve.tracing.traces import HostTraces
from tests.serve.asking import Heard, ask
from tests.serve.test_keys_at_doors import server_behind

PROMPT = "a private text"
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = CLIENT[3:35]
MODEL = EngineBlock("one", "null", {"model": "model-one"})
FLOW = """
name: topics
engines:
  local: {kind: "null", model: m}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
  wanted:
    require: {that: "{{ row.topic != 'ants' }}", else: "a private text"}
  answer:
    llm: {engine: local, prompt: "{{ facts.text }} so?"}
outputs: {answer: "{{ answer.text }}"}
"""
Ask = Callable[..., Heard]


class Traced:
    """A server in the loop of the test, and the spans that it has made."""

    def __init__(self, address: str, spans: InMemorySpanExporter) -> None:
        self.address = address
        self._spans = spans

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Heard:
        return await asyncio.to_thread(partial(ask, self.address, method, path, body, headers))

    async def chat(self, headers: dict[str, str] | None = None, **more: Any) -> None:
        body = {"model": "model-one", "messages": [{"role": "user", "content": PROMPT}], "temperature": 1, **more}
        assert (await self.ask("POST", "/v1/chat/completions", body, headers)).status == 200

    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())


@asynccontextmanager
async def traced(folder: Path, engines: Sequence[EngineBlock] = (MODEL,), flow: str = "") -> AsyncIterator[Traced]:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    paths = [folder / "flow.yaml"] if flow else []
    for path in paths:
        path.write_text(flow)
    config = Config(folder / "state", Secrets({}))
    async with (
        open_serving(config, paths, engines, HostTraces(provider, "1")) as serving,
        open_app(serving, has_batches=False) as app,
        running_server(app) as address,
    ):
        yield Traced(address, spans)
    provider.shutdown()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def test_a_row_is_a_trace_and_its_calls_are_spans(tmp_path: Path) -> None:
    async def main() -> list[ReadableSpan]:
        async with traced(tmp_path, flow=FLOW) as server:
            rows = [{"topic": "bees"}, {"topic": "ants"}]
            heard = await server.ask("POST", "/v1/flows/topics/runs", {"rows": rows})
            assert heard.body["counts"] == {"done": 1, "failed": 1, "dropped": 0}
            again = await server.ask("POST", "/v1/flows/topics/runs", {"row": rows[0]})
            assert again.status == 200
            return server.spans()

    spans = asyncio.run(main())
    by_trace: dict[str, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        by_trace[trace_id(span)].append(span)
    assert len(by_trace) == 3, "a trace for each row"
    names = sorted(sorted(span.name for span in some) for some in by_trace.values())
    assert names == [
        ["chat m", "chat m", "invoke_workflow topics"],
        ["invoke_workflow topics"],
        ["invoke_workflow topics", "reused answer", "reused facts"],
    ]
    for some in by_trace.values():
        (row,) = (span for span in some if span.parent is None)
        assert row.name == "invoke_workflow topics"
        assert all(span.parent is not None and span.parent == row.context for span in some if span is not row)
    call = next(span for span in spans if told(span).get("sundog.step") == "answer" and span.name == "chat m")
    attributes = told(call)
    assert attributes.pop("gen_ai.usage.input_tokens") > 0
    assert attributes.pop("gen_ai.usage.output_tokens") > 0
    attributes.pop("gen_ai.usage.cache_read.input_tokens", None)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.provider.name": "sundog.null",
        "gen_ai.workflow.name": "topics",
        "sundog.engine": "local",
        "sundog.step": "answer",
        "sundog.replica": "local/0",
        "sundog.attempts": 1,
    }
    failed = [span for span in spans if told(span).get("sundog.row.state") == "failed"]
    assert [span.status.status_code.name for span in failed] == ["ERROR"]
    assert PROMPT not in "".join(span.to_json() for span in spans)


def test_calls_of_a_program_are_one_trace_and_others_have_their_own(tmp_path: Path) -> None:
    async def main() -> list[ReadableSpan]:
        async with traced(tmp_path) as server:
            for session in ("one", "two", "one"):
                await server.chat({"x-session-id": session})
            await server.chat()
            return server.spans()

    spans = asyncio.run(main())
    assert [span.name for span in spans] == ["chat model-one"] * 4
    first, other, second, alone = spans
    assert trace_id(first) == trace_id(second)
    assert second.parent == first.context
    assert first.parent is None
    assert len({trace_id(span) for span in (first, other, alone)}) == 3
    assert [told(span).get("gen_ai.conversation.id") for span in spans] == ["one", "two", "one", None]
    assert PROMPT not in "".join(span.to_json() for span in spans)


def test_the_trace_of_a_client_goes_on_in_ours_and_in_servers_behind(tmp_path: Path) -> None:
    async def main(address: str) -> list[ReadableSpan]:
        block = EngineBlock("one", "openai", {"model": "m", "base_url": address})
        flow = FLOW.replace('kind: "null", model: m', f'kind: openai, model: m, base_url: "{address}"')
        async with traced(tmp_path, [block], flow) as server:
            headers = {"traceparent": CLIENT, "tracestate": "vendor=1"}
            await server.chat(headers, model="m")
            heard = await server.ask("POST", "/v1/flows/topics/runs", {"row": {"topic": "bees"}}, headers)
            assert heard.body["counts"]["done"] == 1, heard.body
            return server.spans()

    with server_behind() as (address, seen):
        spans = asyncio.run(main(address))
    asked = [re.search(r"traceparent: (\S+)", one, re.I) for one in seen if "/chat/completions" in one]
    sent = [found.group(1) for found in asked if found is not None]
    calls = [span for span in spans if span.name == "chat m"]
    assert len(sent) == len(calls) == 3
    assert {trace_id(span) for span in spans} == {TRACE}
    ids = {f"00-{TRACE}-{span.context.span_id:016x}-01" for span in calls if span.context is not None}
    assert set(sent) == ids, "each server is told of the span that asks it"
    assert any("tracestate: vendor=1" in one for one in seen)
    roots = [span for span in spans if span.parent is not None and f"{span.parent.span_id:016x}" == CLIENT[36:52]]
    assert sorted(span.name for span in roots) == ["chat m", "invoke_workflow topics"]


def test_a_failure_tells_its_kind_and_not_what_it_says(tmp_path: Path) -> None:
    async def main(address: str) -> list[ReadableSpan]:
        block = EngineBlock("one", "openai", {"model": "m", "base_url": address})
        async with traced(tmp_path, [block]) as server:
            body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
            assert (await server.ask("POST", "/v1/chat/completions", body)).status >= 500
            return server.spans()

    with loopback(type("Broken", (_Broken,), {})) as address:
        (span,) = asyncio.run(main(f"{address}/v1"))
    assert span.status.status_code.name == "ERROR"
    assert span.status.description is None
    assert told(span)["error.type"] == "BadResponse"
    assert not span.events


@pytest.mark.parametrize(
    ("said", "environment", "is_on"),
    [
        (False, {}, False),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        (False, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        (True, {"OTEL_SDK_DISABLED": "true"}, False),
        (True, {}, True),
    ],
)
def test_traces_are_on_where_somebody_says_so(said: bool, environment: dict[str, str], is_on: bool) -> None:
    assert is_wanted(environment, is_said=said) is is_on


def test_without_traces_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, sundog.serve.server, sundog.cli.live.serve;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_traces(is_on=True):
            raise AssertionError("it must not open")

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="which is not installed") as error:
        asyncio.run(main())
    assert "sundog[otel]" in str(error.value.hint)


class _Receiver(BaseHTTPRequestHandler):
    """An OTLP receiver, which keeps what it is sent."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        assert self.headers["content-type"] == "application/x-protobuf"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        """Keep the output of tests clean."""


class _Broken(BaseHTTPRequestHandler):
    """A server whose answers nobody understands."""

    def do_GET(self) -> None:
        self._answer(b'{"data": [{"id": "m"}]}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(f"no JSON: {PROMPT}".encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Keep the output of tests clean."""


@contextmanager
def loopback(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server with a handler."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def receiver() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []
    with loopback(type("Receiver", (_Receiver,), {"received": received})) as address:
        yield address, received


@pytest.mark.slow
def test_a_receiver_gets_the_spans_of_a_server_and_the_log_names_their_trace(tmp_path: Path) -> None:
    (tmp_path / "engines.yaml").write_text('engines: {one: {kind: "null", model: model-one}}\n')
    words = ["--engines", str(tmp_path / "engines.yaml"), "--port", "0", "--state", str(tmp_path / "state")]
    command = [sys.executable, "-m", "sundog", "serve", *words, "--log-format", "json"]
    with receiver() as (endpoint, received):
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stderr is not None
            ready = process.stderr.readline()
            found = re.search(r"at (http://\S+)", ready)
            assert found is not None, ready
            body = {"model": "one", "messages": [{"role": "user", "content": PROMPT}]}
            assert ask(found.group(1), "POST", "/v1/chat/completions", body, {"traceparent": CLIENT}).status == 200
            process.terminate()
            lines = process.stderr.read().splitlines()
        assert process.returncode == 0
    (batch,) = received
    (resource,) = batch.resource_spans
    services = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert services["service.name"] == "sundog"
    (span,) = resource.scope_spans[0].spans
    assert span.name == "chat model-one"
    assert span.trace_id.hex() == TRACE
    attributes = {one.key: one.value for one in span.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value > 0
    assert PROMPT.encode() not in batch.SerializeToString()
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    (line,) = [one for one in logged if one["logger"] == "sundog.requests"]
    assert line["trace_id"] == TRACE


def test_a_receiver_that_is_away_delays_the_end_by_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sundog.serve.tracing.exporting.MAX_SHUTDOWN_S", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")

    async def test() -> float:
        async with open_traces(is_on=True) as traces:
            assert traces is not None
            traces._tracer.start_span("nobody takes it").end()
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(test()) < 1.5
    assert "the last spans are lost" in caplog.text

"""The `http` step: one request, one answer.

Owns the spec, what the plan knows of the step, and one attempt. GET and HEAD are reads, all other methods are effects:
they carry `Idempotency-Key`, which is the same for every attempt of one effect. Keeps no cookies between calls.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field

from sundog.errors import FlowError, OperatorError
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.render import Scope
from sundog.ir.shape import Anything, Record, Scalar, Shape
from sundog.ir.template import Template
from sundog.operators.arguments import (
    Argument,
    check_secrets,
    redact_error,
    render_argument,
    reveal_argument,
    secret_places,
)
from sundog.operators.base import BoundCall, CallContext, Finding, Inspection, Outcome, Traits
from sundog.operators.http_faults import status_fault, transport_fault
from sundog.operators.http_origin import is_address, origin_of, starts_wrong
from sundog.secrets import PATTERN

READS = frozenset({"GET", "HEAD"})
MAX_REDIRECTS = 5
# The others may hold credentials (set-cookie) or differ at each call (date), and results are kept.
KEPT_HEADERS = ("content-type", "content-language", "etag", "last-modified", "link", "location", "retry-after")

# httpx logs the URL of every request, and ours may hold a secret.
_is_ours: ContextVar[bool] = ContextVar("sundog_http_call", default=False)
logging.getLogger("httpx").addFilter(lambda record: not _is_ours.get())


class HTTPSpec(OperatorSpec):
    """`params`: added to the URL's query, a list for a repeated one. `json` or `body`: what is sent.
    `expect_status`: the statuses that are no failure, 200 to 299 without it. `follow_redirects`: for GET and HEAD."""

    allows_secrets = frozenset({"url", "params", "headers", "json", "body"})

    url: Template
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    params: dict[str, Argument] = Field(default_factory=dict)
    headers: dict[str, Argument] = Field(default_factory=dict)
    # pydantic has a method called json.
    json_body: Argument = Field(default=None, alias="json")
    body: Template | None = None
    expect_status: tuple[int, ...] | None = None
    max_response_bytes: int = Field(default=10_000_000, ge=1)
    follow_redirects: bool = False


class HTTPOperator:
    """HTTP requests over one client with pooled connections; `transport` replaces the network, for tests."""

    name = "http"
    Spec: type[OperatorSpec] = HTTPSpec

    def __init__(self, base_dir: Path, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    def check(self, spec: HTTPSpec, engines: Mapping[str, EngineBlock]) -> None:
        if starts_wrong(spec.url):
            raise FlowError(f"'{spec.url}' is no URL", hint="begin with https:// or http://")
        if spec.json_body is not None and spec.body is not None:
            raise FlowError("a request has json or body, not both", hint="json: is sent as JSON, body: as it is")
        if spec.follow_redirects and spec.method not in READS:
            raise FlowError(
                f"a {spec.method} does not follow redirects", hint="an effect goes to one place: write the final URL"
            )
        check_secrets(_arguments(spec))

    def traits(self, spec: HTTPSpec) -> Traits:
        origin = origin_of(spec.url)
        if spec.method in READS:
            return Traits(Sharing.RUN, pool=origin, resource=origin, reason=f"{spec.method} reads")
        return Traits(
            Sharing.NEVER,
            pool=origin,
            is_effect=True,
            resource=origin,
            writes=True,
            retries=0,
            reason=f"{spec.method} is an effect",
        )

    def shape(self, spec: HTTPSpec) -> Shape:
        return Record.of(status=Scalar(), headers=Anything(), text=Scalar(), json=Anything())

    def bind(self, spec: HTTPSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        arguments = _arguments(spec)
        request = render_argument(arguments, scope)
        for field in ("url", "body"):
            if not isinstance(request[field], str | None):
                raise OperatorError(f"the {field} is no text", hint="a structure goes under json:")
        request["params"] = {name: _query_value(name, value) for name, value in request["params"].items()}
        request["headers"] = {name: _text(f"the header '{name}'", value) for name, value in request["headers"].items()}
        return BoundCall(
            {
                "method": spec.method,
                "request": request,
                "secrets": secret_places(arguments),
                "expect_status": None if spec.expect_status is None else list(spec.expect_status),
                "max_response_bytes": spec.max_response_bytes,
                "follow_redirects": spec.follow_redirects,
            }
        )

    async def inspect(self, spec: HTTPSpec, given: Inspection) -> Sequence[Finding]:
        urls = {row: call.payload["request"]["url"] for row, calls in given.calls.items() for call in calls}
        wrong = {row: url for row, url in urls.items() if PATTERN.match(url) is None and not is_address(url)}
        if not wrong:
            return []
        row, url = next(iter(wrong.items()))
        what = f"{given.rows(len(wrong))} have no URL to ask (row {row}: {url[:100]!r})"
        return [Finding(what, "a URL begins with https:// or http://", is_fatal=len(wrong) == given.num_rows)]

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        progress = _Progress()
        is_effect = call.payload["method"] not in READS
        token = _is_ours.set(True)
        try:
            request = _build(self._open(), call.payload, context, progress)
            async with asyncio.timeout(context.timeout_s):
                response, body = await self._exchange(request, call.payload)
            value = _read_answer(response, body, call.payload["expect_status"], is_effect=is_effect)
        except (httpx.RequestError, TimeoutError) as error:
            is_unknown = is_effect and progress.is_sending
            fault = transport_fault(error, context.timeout_s, is_unknown=is_unknown)
            raise redact_error(fault, context.secrets) from None
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None
        finally:
            _is_ours.reset(token)
        return Outcome(context.secrets.redact_all(value))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _exchange(self, request: httpx.Request, payload: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        """The answer and its body, after redirects where they are followed."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._open().send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None or not payload["follow_redirects"]:
                    return response, await _read_body(response, payload["max_response_bytes"])
            finally:
                await response.aclose()
            request = _redirected(request, response.next_request, has_secrets=bool(payload["secrets"]))
        raise OperatorError(f"more than {MAX_REDIRECTS} redirects", hint="write the final URL")

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport,
                # Limits are the core's, per origin; the time limit is the whole attempt's.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                timeout=None,
                headers={"User-Agent": "sundog"},
                # One row's session must not become another's.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._client


@dataclass(slots=True)
class _Progress:
    """`is_sending`: the first byte of the request may have left."""

    is_sending: bool = False

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        self.is_sending |= event.endswith("send_request_headers.started")


def _arguments(spec: HTTPSpec) -> dict[str, Any]:
    return {
        "url": spec.url,
        "params": spec.params,
        "headers": spec.headers,
        "json": spec.json_body,
        "body": spec.body,
    }


def _query_value(name: str, value: Any) -> Any:
    what = f"the query parameter '{name}'"
    return [_text(what, item) for item in value] if isinstance(value, list) else _text(what, value)


def _text(what: str, value: Any) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return json.dumps(value)
    kind = "null" if value is None else type(value).__name__
    raise OperatorError(f"{what} is {kind}, not text or a number", hint="| default('', true) makes empty text of null")


def _build(
    client: httpx.AsyncClient, payload: Mapping[str, Any], context: CallContext, progress: _Progress
) -> httpx.Request:
    parts = reveal_argument(payload["request"], payload["secrets"], context.secrets)
    try:
        headers = httpx.Headers(parts["headers"])
        if payload["method"] not in READS:
            headers.setdefault("Idempotency-Key", context.idempotency_key)
        return client.build_request(
            payload["method"],
            httpx.URL(parts["url"]).copy_merge_params(parts["params"]),
            headers=headers,
            json=parts["json"],
            content=None if parts["body"] is None else parts["body"].encode(),
            extensions={"trace": progress.trace},
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise OperatorError(f"the request cannot be built: {error}") from error


def _redirected(request: httpx.Request, target: httpx.Request, *, has_secrets: bool) -> httpx.Request:
    origins = [(url.scheme, url.host, url.port) for url in (request.url, target.url)]
    if has_secrets and origins[0] != origins[1]:
        raise OperatorError(
            f"the server redirects to another host, {target.url.host}, and the request holds secrets",
            hint="write the final URL in the flow",
        )
    return target


async def _read_body(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise OperatorError(
                f"the server answered {response.status_code} with more than {max_bytes} bytes",
                hint="ask for less, or raise max_response_bytes of the step",
            )
    return bytes(body)


def _read_answer(response: httpx.Response, body: bytes, expected: list[int] | None, *, is_effect: bool) -> Any:
    text = _decode(body, response.charset_encoding)
    is_expected = response.is_success if expected is None else response.status_code in expected
    if not is_expected:
        raise status_fault(response, text, is_effect=is_effect)
    return {
        "status": response.status_code,
        "headers": {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers},
        "text": text,
        "json": _parse_json(text),
    }


def _decode(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except LookupError:  # a charset nobody knows: the bytes that are text stay readable
        return body.decode("utf-8", "replace")


def _parse_json(text: str) -> Any:
    """The body's JSON value, whatever its content type says; None where it has none."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

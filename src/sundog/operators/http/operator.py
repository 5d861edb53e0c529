"""The `http` step: one request, one answer.

Owns the spec, what the plan knows of the step, and one attempt. GET and HEAD are reads, all other methods are effects
unless the step says otherwise: effects carry `Idempotency-Key`, which is the same for every attempt of one effect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sundog.errors import ConfigError, FlowError, OperatorError
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Anything, Record, Scalar, Shape
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template
from sundog.operators.arguments import (
    Argument,
    check_secrets,
    held_templates,
    redact_error,
    render_argument,
    secret_places,
)
from sundog.operators.base import BoundCall, CallContext, Finding, Inspection, Outcome, PayloadForm, Traits
from sundog.operators.http.answer import answer_value, body_text
from sundog.operators.http.exchange import exchange, request_of
from sundog.operators.http.faults import status_fault, transport_fault
from sundog.operators.http.origin import host_address, is_address, origin_of, pool_at, starts_wrong
from sundog.secrets import PATTERN, Secrets
from sundog.transport.address import FRAMING
from sundog.transport.client import Client
from sundog.transport.faults import BadAddress, TransportFault
from sundog.transport.send_progress import SendProgress

READS = frozenset({"GET", "HEAD"})


class HTTPSpec(OperatorSpec):
    """One HTTP request."""

    allows_secrets = frozenset({"url", "params", "headers", "json", "body", "ca_file", "proxy"})

    url: Template
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    #: Added to the URL's query, a list for a repeated one.
    params: dict[str, Argument] = Field(default_factory=dict)
    headers: dict[str, Argument] = Field(default_factory=dict)
    # pydantic has a method called json.
    #: The body as data, in place of `body`.
    json_body: Argument = Field(default=None, alias="json")
    #: The body as text.
    body: Template | None = None
    #: The statuses that are no failure, 200 to 299 without it.
    expect_status: tuple[int, ...] | None = None
    max_response_bytes: int = Field(default=10_000_000, ge=1)
    #: For GET and HEAD.
    follow_redirects: bool = False
    #: True where a call changes something; None takes it from the method.
    effect: bool | None = None
    #: The certificates that are trusted, a relative path from the flow file's folder; None for those of the
    #: environment.
    ca_file: str | None = None
    #: A URL, empty for none; None for those of the environment.
    proxy: str | None = None

    @property
    def is_effect(self) -> bool:
        return self.method not in READS if self.effect is None else self.effect


class HTTPOperator:
    """HTTP requests over one client for each way that steps take; it keeps connections and no cookies."""

    name = "http"
    Spec: type[OperatorSpec] = HTTPSpec

    def __init__(self, base_dir: Path) -> None:
        # Limits are the core's, per origin; the time limit is the whole attempt's.
        self._base_dir = base_dir
        self._clients: dict[tuple[str | None, str | None], Client] = {}

    def check(self, spec: HTTPSpec, engines: Mapping[str, EngineBlock]) -> None:
        if starts_wrong(spec.url):
            raise FlowError(f"'{spec.url}' is no URL", hint="begin with https:// or http://")
        if spec.json_body is not None and spec.body is not None:
            raise FlowError("a request has json or body, not both", hint="json: is sent as JSON, body: as it is")
        if spec.follow_redirects and spec.method not in READS:
            raise FlowError(
                f"a {spec.method} does not follow redirects", hint="an effect goes to one place: write the final URL"
            )
        for name in spec.headers:
            if name.lower() in FRAMING:
                what = f"the header '{name}' says where the request ends, and is written by sundog alone"
                raise FlowError(what, where=f"headers.{name}", hint="leave it out")
        check_secrets(_arguments(spec))

    def traits(self, spec: HTTPSpec) -> Traits:
        origin = origin_of(spec.url)
        if not spec.is_effect:
            says = f"{spec.method} reads" if spec.method in READS else f"{spec.method} without effect"
            return Traits(Sharing.RUN, pool=origin, resource=origin, reason=says, payload=_payload_form(spec))
        return Traits(
            Sharing.NEVER,
            pool=origin,
            is_effect=True,
            resource=origin,
            writes=True,
            retries=0,
            reason=f"{spec.method} is an effect",
        )

    def address_of(self, spec: HTTPSpec) -> str:
        return host_address(spec.url)

    def pool_at(self, address: str) -> str | None:
        return pool_at(address)

    def shape(self, spec: HTTPSpec) -> Shape:
        return Record.of(status=Scalar("int"), headers=Anything(), text=Scalar("str"), json=Anything())

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
                "is_effect": spec.is_effect,
                "request": request,
                "secrets": secret_places(arguments),
                "expect_status": None if spec.expect_status is None else list(spec.expect_status),
                "max_response_bytes": spec.max_response_bytes,
                "follow_redirects": spec.follow_redirects,
                "ca_file": spec.ca_file,
                "proxy": spec.proxy,
            }
        )

    async def inspect(self, spec: HTTPSpec, given: Inspection) -> Sequence[Finding]:
        urls = {row: call.payload["request"]["url"] for row, calls in given.calls.items() for call in calls}
        wrong = {row: url for row, url in urls.items() if PATTERN.match(url) is None and not is_address(url)}
        if wrong:
            row, url = next(iter(wrong.items()))
            what = f"{given.rows(len(wrong))} have no URL to ask (row {row}: {url[:100]!r})"
            return [Finding(what, "a URL begins with https:// or http://", is_fatal=len(wrong) == given.num_rows)]
        return self._inspect_way(spec, [str(spec.url), *urls.values()], given.secrets)

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        payload, progress = call.payload, SendProgress()
        is_effect = payload["is_effect"]
        try:
            request = request_of(payload, context)
            client = self._client(payload["ca_file"], payload["proxy"], context.secrets)
            async with asyncio.timeout(context.timeout_s):
                answer = await exchange(client, request, payload, progress)
            text = body_text(answer)
            if not _is_expected(answer.status, payload["expect_status"]):
                # Without its secrets before it is cut: no half of one may be left.
                raise status_fault(answer, context.secrets.redact(text), is_effect=is_effect)
        except (TransportFault, TimeoutError) as error:
            is_unknown = is_effect and progress.is_sending
            fault = transport_fault(error, context.timeout_s, is_unknown=is_unknown)
            raise redact_error(fault, context.secrets) from None
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None
        return Outcome(context.secrets.redact_all(answer_value(answer, text)))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    def _client(self, ca_file: str | None, proxy: str | None, secrets: Secrets) -> Client:
        """Return the client of a way, as the flow spells it; its sessions belong to the running loop."""
        way = (ca_file, proxy)
        if way not in self._clients:
            file, url = (value and secrets.reveal(value) for value in way)
            self._clients[way] = Client(ca_file=file and str(self._base_dir / file), proxy=url)
        return self._clients[way]

    def _inspect_way(self, spec: HTTPSpec, urls: Sequence[str], secrets: Secrets) -> Sequence[Finding]:
        """Return what of this machine stands in the way: a proxy or authorities that the environment names and that
        cannot be used."""
        for url in dict.fromkeys(url for url in urls if not PATTERN.search(url) and "{{" not in url):
            try:
                self._client(spec.ca_file, spec.proxy, secrets).check(url)
            except ConfigError as error:
                return [Finding(error.what, error.hint, is_fatal=True)]
            except BadAddress:
                """A fault of its row, told by its call."""
        return []


def _payload_form(spec: HTTPSpec) -> PayloadForm:
    arguments = _arguments(spec)
    body = held_templates({"json": arguments.pop("json")}, "request")
    return PayloadForm({"method": spec.method}, (*held_templates(arguments, "request", is_text=True), *body))


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


def _is_expected(status: int, expected: list[int] | None) -> bool:
    return 200 <= status < 300 if expected is None else status in expected

"""One request of an http step on its way: built from its payload, sent, and led on where the server redirects.

Owns what goes to another origin. Never says what an answer means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sundog.errors import OperatorError
from sundog.operators.arguments import reveal_argument
from sundog.operators.base import CallContext
from sundog.transport.address import check_header, parse, resolved, with_parameters
from sundog.transport.answer import REDIRECTS, WholeAnswer
from sundog.transport.client import Client, Request
from sundog.transport.faults import BadAddress, TooLarge
from sundog.transport.send_progress import SendProgress

MAX_REDIRECTS = 5
# Any other header may be a credential, whatever its name.
GOES_ANYWHERE = frozenset({"accept", "accept-language", "user-agent"})


def request_of(payload: Mapping[str, Any], context: CallContext) -> Request:
    """Return the request of a rendered call, with its secrets; OperatorError, which tells none of its parts, where it
    cannot be written."""
    parts = reveal_argument(payload["request"], payload["secrets"], context.secrets)
    headers = dict(parts["headers"])
    try:
        body = _body(parts, headers)
        if payload["is_effect"]:
            _set_default(headers, "Idempotency-Key", context.idempotency_key)
        for name, value in headers.items():
            check_header(name, value)
        address = parse(with_parameters(parts["url"], _pairs(parts["params"])))
    except BadAddress as fault:
        raise OperatorError(f"the request cannot be sent: {fault.what}") from None
    if address.credentials is not None:
        _set_default(headers, "Authorization", address.credentials)
    return Request(payload["method"], address.url, headers, body, is_repeatable=not payload["is_effect"])


async def exchange(client: Client, request: Request, payload: Mapping[str, Any], progress: SendProgress) -> WholeAnswer:
    """Return the whole answer, after redirects where they are followed; a TransportFault or OperatorError when there is
    none."""
    for _ in range(MAX_REDIRECTS + 1):
        async with client.open(request, progress=progress) as answer:
            location = answer.headers.get("location")
            if location is None or answer.status not in REDIRECTS or not payload["follow_redirects"]:
                try:
                    body = await answer.read(payload["max_response_bytes"])
                except TooLarge as fault:
                    fault.what = f"the server answered {answer.status} with more than {fault.max_bytes} bytes"
                    fault.hint = "ask for less, or raise max_response_bytes of the step"
                    raise
                return WholeAnswer(answer.status, answer.reason, answer.headers, body)
        request = _redirected(request, location, has_secrets=bool(payload["secrets"]))
        progress.is_sending = False
    raise OperatorError(f"more than {MAX_REDIRECTS} redirects", hint="write the final URL")


def _redirected(request: Request, location: str, *, has_secrets: bool) -> Request:
    try:
        here, there = parse(request.url), parse(resolved(request.url, location))
    except BadAddress as fault:
        raise OperatorError(f"the server redirects to where nothing can be asked: {fault.what}") from None
    if here.origin == there.origin:
        return replace(request, url=there.url)
    if has_secrets:
        raise OperatorError(
            f"the server redirects to another host, {there.host}, and the request holds secrets",
            hint="write the final URL in the flow",
        )
    kept = {name: value for name, value in request.headers.items() if name.lower() in GOES_ANYWHERE}
    return replace(request, url=there.url, headers=kept, body=None)


def _body(parts: Mapping[str, Any], headers: dict[str, str]) -> bytes | None:
    """Return the bytes to send; sets their type where the step does not."""
    try:
        if parts["json"] is not None:
            _set_default(headers, "Content-Type", "application/json")
            text = json.dumps(parts["json"], ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode()
        return None if parts["body"] is None else parts["body"].encode()
    except (ValueError, RecursionError):
        raise BadAddress("its body holds text or a number that cannot be written") from None


def _set_default(headers: dict[str, str], name: str, value: str) -> None:
    if name.lower() not in {known.lower() for known in headers}:
        headers[name] = value


def _pairs(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else [value]:
            yield name, item

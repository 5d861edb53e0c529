"""One server of the OpenAI protocol: where it is, what goes with every request, and what a failed exchange means.

Owns the key, the headers, and what of them may be shown. Never reads an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import parse_qsl, unquote, urlsplit

from sundog.engines.openai.options import OpenAIOptions
from sundog.errors import BadResponse, ConfigError, EngineError, EngineTimeout, EngineUnavailable
from sundog.secrets import MIN_LENGTH, PATTERN, Redactor, Secrets
from sundog.transport.address import check_header, joined
from sundog.transport.answer import WholeAnswer
from sundog.transport.client import MAX_PAGE_BYTES, Client, Opening, Request
from sundog.transport.faults import (
    BadAddress,
    ConnectTimeout,
    Damaged,
    Silent,
    TooLarge,
    TransportFault,
    Untrusted,
)
from sundog.transport.trace_headers import NO_TRACE, TRACE_HEADERS

_SCHEME = re.compile(r"(Bearer|Basic|Token|ApiKey|Api-Key)\s+", re.I)
_CREDENTIAL = re.compile(r"key|token|secret|auth|password|cookie|session", re.I)


def secrets_of_url(url: str) -> Iterator[tuple[str, str]]:
    """Yield the password of a URL, and what its query calls a key, each with what may be shown in its place."""
    with suppress(ValueError):  # what is no URL is told when it is used
        parts = urlsplit(url)
        if parts.password:
            yield unquote(parts.password), "<password>"
        for name, value in parse_qsl(parts.query):
            if _CREDENTIAL.search(name):
                yield value, f"<{name}>"


class Connection:
    """The way to one server."""

    def __init__(self, options: OpenAIOptions, base_url: str, secrets: Secrets) -> None:
        """Raise ConfigError where a key or a header cannot be sent, or a variable is not set."""
        self._secrets = secrets
        self._base_url = secrets.reveal(base_url)
        self._silence_s = options.timeout_s
        self._written = Redactor()
        for value, shown in secrets_of_url(self._base_url):
            self._hide(value, shown)
        self.shown_url = self.hide(self._base_url).rstrip("/")
        self._headers = self._headers_of(options)
        ca_file, proxy = (value and secrets.reveal(value) for value in (options.ca_file, options.proxy))
        self._client = Client(ca_file=ca_file, proxy=proxy)
        self._json_headers = {"Content-Type": "application/json", **self._headers}

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = NO_TRACE) -> Opening:
        """Return the exchange of one JSON request with what is at `path` below the base URL. `headers`: further ones;
        they replace none of the server's own."""
        traced = TRACE_HEADERS.get()
        sent = {**headers, **traced, **self._json_headers} if headers or traced else self._json_headers
        return self._client.open(Request("POST", self.url_of(path), sent, body), silence_s=self._silence_s)

    async def get(self, url: str, *, within_s: float) -> WholeAnswer:
        """Return the whole answer; a TransportFault when there is none."""
        return await self._client.fetch(Request("GET", url, self._headers), max_bytes=MAX_PAGE_BYTES, within_s=within_s)

    def url_of(self, path: str) -> str:
        """Return the address of what is at `path` below the base URL."""
        return joined(self._base_url, path)

    def hide(self, text: str) -> str:
        """Return `text` without secrets, be they named or written in the flow."""
        return self._written.redact(self._secrets.redact(text))

    def error_of(self, fault: TransportFault) -> EngineError:
        """Return what a fault of a request means."""
        kind: type[EngineError] = BadResponse
        what, is_retryable = f"the request failed: {fault.what}", True
        match fault:
            case ConnectTimeout() | Silent():
                kind, what = EngineTimeout, f"the server did not answer in time: {fault.what}"
            case Damaged():
                what = f"the server sent a damaged answer: {fault.what}"
            case TooLarge() | BadAddress():
                is_retryable = False
            case _:
                kind, is_retryable = EngineUnavailable, not isinstance(fault, Untrusted)
                what = f"the connection to the server failed: {fault.what}"
        error = kind(self.hide(what), where=self.shown_url, hint=fault.hint, retryable=is_retryable)
        error.is_refused = not fault.is_sent
        return error

    def start_error_of(self, fault: TransportFault) -> ConfigError | EngineUnavailable:
        """Return what a fault means before anything was asked of the server."""
        if isinstance(fault, BadAddress):
            return ConfigError(
                f"'{self.shown_url}' is not an address: {fault.what}", hint="base_url: http://host:port/v1"
            )
        return EngineUnavailable(
            f"no server answers at {self.shown_url}: {self.hide(fault.what)}",
            hint=fault.hint or "start the server or correct base_url",
            retryable=not isinstance(fault, Untrusted),
        )

    async def close(self) -> None:
        await self._client.close()

    def _headers_of(self, options: OpenAIOptions) -> dict[str, str]:
        headers: dict[str, str] = {}
        if options.api_key is not None:
            key = self._revealed("api_key", options.api_key, "Authorization")
            headers["Authorization"] = f"Bearer {key}"
            self._hide(key, "<api_key>")
        for name, written in options.headers.items():
            value = self._revealed(f"the header '{name}'", written, name)
            if name.lower() == "authorization":
                headers.pop("Authorization", None)
            headers[name] = value
            if _CREDENTIAL.search(name):
                self._hide(value, f"<{name}>")
        return headers

    def _hide(self, value: str, shown: str) -> None:
        """Keep a value out of messages, be it a name in the flow or written there: without what HTTP has before it."""
        value = _SCHEME.sub("", value)
        if len(value) >= MIN_LENGTH:
            self._written.add(value, shown)

    def _revealed(self, what: str, written: str, header: str) -> str:
        """Return the value of a header. A line end is what a shell or an editor has left at its end."""
        value = self._secrets.reveal(written).strip()
        try:
            check_header(header, value)
        except BadAddress as fault:
            names = ", ".join(dict.fromkeys(PATTERN.findall(written)))
            hint = f"look at the value of {names}" if names else "look at its value in the flow"
            raise ConfigError(f"{what} cannot be sent: {fault.what}", hint=hint) from None
        return value

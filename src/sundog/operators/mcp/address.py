"""The address of an MCP server: a program that is started, or a URL.

Owns how a flow names a server and what messages call it. Never connects and knows no secret.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from sundog.errors import FlowError
from sundog.ir.templates.template import Template
from sundog.operators.http.origin import ANY_ORIGIN, origin_of

POOL_PREFIX = "mcp:"
MAX_SHOWN = 80
_TEMPLATE = re.compile(r"\{\{|\{%")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The place of a server, with secrets still as `${env:NAME}`; either `command` or `url`."""

    #: A program and its arguments; it speaks over its standard input and output.
    command: tuple[str, ...] = ()
    #: Environment variables that the program gets beside the plain ones of the protocol's library.
    env: tuple[tuple[str, str], ...] = ()
    url: str | None = None
    #: Headers of each request to the URL.
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def pool(self) -> str:
        """Return the pool of its calls, which is its address for `limits` too."""
        if self.url is None:
            return f"{POOL_PREFIX}{shlex.join(self.command)}"
        return f"{POOL_PREFIX}{origin_of(Template(self.url)).removeprefix('http:')}"

    @property
    def shown(self) -> str:
        """Return it as messages name it."""
        name = self.pool.removeprefix(POOL_PREFIX)
        return f"'{name if len(name) <= MAX_SHOWN else name[:MAX_SHOWN] + '...'}'"


def check_server(address: ServerAddress) -> None:
    """Raise FlowError where it is no address of one server."""
    if (address.url is None) == (not address.command):
        raise FlowError(
            "a server is a command or a url, one of them",
            hint='as in command: ["python", "server.py"], or url: https://host/mcp',
        )
    if address.url is None and address.headers:
        raise FlowError("headers go with a url", where="headers", hint="a command gets environment variables: env")
    if address.url is not None and address.env:
        raise FlowError("env goes with a command", where="env", hint="a url gets headers")
    for field, texts in _texts(address).items():
        if any(map(_TEMPLATE.search, texts)):
            raise FlowError(
                "the address of a server is no template",
                where=field,
                hint="one server serves all rows; what a row has goes to arguments",
            )
    if address.url is not None and (
        not address.url.startswith(("http://", "https://", "${env:")) or _has_no_host(address.url)
    ):
        raise FlowError(f"'{address.url}' is no URL", where="url", hint="begin with https:// or http://, and a host")


def _texts(address: ServerAddress) -> dict[str, tuple[str, ...]]:
    return {
        "command": address.command,
        "env": tuple(value for _, value in address.env),
        "url": () if address.url is None else (address.url,),
        "headers": tuple(value for _, value in address.headers),
    }


def _has_no_host(url: str) -> bool:
    return not url.startswith("${env:") and origin_of(Template(url)) in (ANY_ORIGIN, "http:http://", "http:https://")

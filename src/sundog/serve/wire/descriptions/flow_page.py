"""The page of the flows that are served, for people: plain HTML, which needs nothing from elsewhere.

Owns this page. Never knows what runs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from html import escape

from sundog.serve.wire.descriptions.openapi import FlowForm

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}pre{background:#f2f2f2;padding:.8rem;overflow-x:auto}code{font-family:ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#262626}a{color:#8ab4f8}}"
)


def flow_page(flows: Sequence[FlowForm], address: str) -> str:
    """Return the page; `address` is what clients send to, as in http://127.0.0.1:8321."""
    parts = "".join(_section(flow, address) for flow in flows) or "<p>No flow is served.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>sundog: flows</title><style>{STYLE}</style></head><body><main><h1>Flows</h1>"
        f'<p>The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>{parts}</main></body></html>'
    )


def example_command(flow: FlowForm, address: str) -> str:
    """Return a command that sends one row."""
    body = json.dumps({"row": dict.fromkeys(flow.columns, "...")}, ensure_ascii=False)
    return f"curl {shlex.quote(f'{address}/v1/flows/{flow.name}/runs')} -d {shlex.quote(body)}"


def _section(flow: FlowForm, address: str) -> str:
    return (
        f"<section><h2>{escape(flow.name)}</h2><p>Columns: {_names(flow.columns)}<br>Outputs: {_names(flow.outputs)}"
        f"</p><pre><code>{escape(example_command(flow, address))}</code></pre></section>"
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names) or "none"

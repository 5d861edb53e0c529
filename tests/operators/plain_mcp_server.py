"""An MCP server without any library, as wrong as it is told to be: it floods, lies, dies, hears no end of its input.

As a program it reads lines and writes lines. Its first argument is how it behaves, its second a file that gets a line
for each start and each use of a tool.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ANYTHING: dict[str, Any] = {"type": "object"}
DEGREES = {"type": "object", "properties": {"degrees": {"type": "integer"}}, "required": ["degrees"]}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": ANYTHING, **fields}


def page_of_tools(how: str, cursor: str | None) -> dict[str, Any]:
    if how == "endless list":
        number = int(cursor or 0)
        return {"tools": [tool(f"t{number}")], "nextCursor": str(number + 1)}
    if how == "long list":
        return {"tools": [tool(f"t{number:03}") for number in range(250)]}
    if how == "large schema":
        return {
            "tools": [tool("large", description="x", outputSchema={**ANYTHING, "title": "x" * 70_000}), tool("small")]
        }
    if how == "odd list":
        twice = [tool("twice", description="a"), tool("twice", description="b")]
        return {"tools": [tool("same"), tool("same"), *twice, tool(""), tool("echo", description=" ")]}
    if how == "no schema":
        return {"tools": [{"name": "first", "inputSchema": {}}, tool("echo")]}
    if how.startswith("has "):
        return {"tools": [tool(how.removeprefix("has ")), tool("echo")]}
    return {"tools": [tool("lie", outputSchema=DEGREES), tool("keep", outputSchema=DEGREES), tool("echo")]}


def result_of(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    text = [{"type": "text", "text": json.dumps(arguments)}]
    match name:
        case "lie":
            return {"content": text, "structuredContent": {"degrees": "warm"}}
        case "keep":
            return {"content": text, "structuredContent": {"degrees": 7}}
        case "missing":
            return {"content": text, "structuredContent": None}
        case "broken":
            return {"content": "no list"}
        case "failure":
            return {"content": [], "structuredContent": {"why": "the shop is closed"}, "isError": True}
        case "paper":
            paper = {"uri": "file:///a.pdf", "blob": "aGk=", "mimeType": "application/pdf"}
            return {"content": [{"type": "resource", "resource": paper}]}
        case "flood":
            while True:
                os.write(1, b"x" * 65_536)
        case "die":
            sys.stderr.write("the disk is full, " + os.environ.get("KEY", ""))
            sys.stderr.flush()
            os._exit(3)
        case "silent":
            time.sleep(3600)
        case "daemon":
            daemon = subprocess.Popen(["sleep", "60"], start_new_session=True)
            return {"content": text, "structuredContent": {"process": daemon.pid}}
        case "noise":
            os.write(1, b"loading the model...\n")
    return {"content": text}


def answer(how: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            about = {"name": "plain", "version": "1"}
            version = params["protocolVersion"]
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}}
        case "tools/list":
            return {"result": page_of_tools(how, params.get("cursor"))}
        case "tools/call" if params["name"] == "refuse":
            return {"error": {"code": -32602, "message": "there is no such tool"}}
        case "tools/call":
            return {"result": result_of(params["name"], params.get("arguments") or {})}
    return {"error": {"code": -32601, "message": "Method not found"}}


def tell(seen: Path, event: str) -> None:
    with seen.open("a") as file:
        file.write(f"{event}\n")


def main(how: str, seen: Path) -> None:
    """As `as FILE says` it behaves as that file says when it starts."""
    if how.startswith("as "):
        how = Path(how.removeprefix("as ").removesuffix(" says")).read_text()
    tell(seen, f"start {os.getpid()}")
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        if message["method"] == "tools/call":
            tell(seen, message["params"]["name"])
        said = answer(how, message["method"], message.get("params") or {})
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}) + "\n")
        sys.stdout.flush()
    while how == "deaf":
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

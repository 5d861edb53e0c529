"""An OpenAI server whose answers follow from what is asked, and that counts calls and the words that a model reads.

Owns the answers to the three jobs of `table_peers.py`. Never sees who asks.
"""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar, Self

REVIEW = re.compile(r"(complaint|praise) about the (\w+), severity (\d+)")
NAME = re.compile(r"Name\]?:\s*\W*(\w+)")
PAIR = re.compile(r"Left: <(\w+)>.*?Right: <(\w+)>", re.DOTALL)


class ScriptedEndpoint:
    """A server on a free port while its block is open. `take` gives the calls and words since the last `take`."""

    def __enter__(self) -> Self:
        self._lock = Lock()
        self._num_calls = self._num_words = 0
        handler = type("_Bound", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def count(self, num_words: int) -> None:
        with self._lock:
            self._num_calls += 1
            self._num_words += num_words

    def take(self) -> dict[str, int]:
        with self._lock:
            found = {"calls": self._num_calls, "prompt_tokens": self._num_words}
            self._num_calls = self._num_words = 0
            return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[ScriptedEndpoint]

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self._send(json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        read = [[one.get("content"), one.get("tool_calls")] for one in body["messages"]]
        num_words = len(re.findall(r"\w+", json.dumps([read, body.get("tools"), body.get("response_format")])))
        self.owner.count(num_words)
        said = {"role": "assistant", "content": None, **_said(body)}
        reason = "tool_calls" if "tool_calls" in said else "stop"
        head = {"id": "x", "created": 1, "model": "scripted"}
        usage = {"prompt_tokens": num_words, "completion_tokens": 3, "total_tokens": num_words + 3}
        if not body.get("stream"):
            choice = {"index": 0, "message": said, "finish_reason": reason}
            whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._send(json.dumps(whole), "application/json")
            return
        if "tool_calls" in said:
            said["tool_calls"] = [{"index": place, **call} for place, call in enumerate(said["tool_calls"])]
        head["object"] = "chat.completion.chunk"
        events = [
            {**head, "choices": [{"index": 0, "delta": said, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {**head, "choices": [], "usage": usage},
        ]
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self._send(f"{lines}data: [DONE]\n\n", "text/event-stream")

    def _send(self, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _said(body: dict[str, Any]) -> dict[str, Any]:
    """Return the content or the calls of the answer."""
    messages = body["messages"]
    text = "\n".join(_text(message.get("content")) for message in messages)
    tools = [tool["function"] for tool in body.get("tools") or ()]
    if tools and tools[0]["name"] == "search":
        found = [_text(message["content"]) for message in messages if message["role"] == "tool"]
        if len(found) == 2:
            return {"content": found[-1]}
        return _called("search", {"query": found[-1] if found else _match(r"star of (\w+)", text)[1]})
    if tools:
        return _called(tools[0]["name"], {key: _field(key, text) for key in tools[0]["parameters"]["properties"]})
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema:
        return {"content": json.dumps({key: _field(key, text) for key in schema["properties"]})}
    if "Document 1" in text:
        one, two = (int(found[3]) for found in list(REVIEW.finditer(text))[-2:])
        return {"content": f"Answer: Document {1 if one >= two else 2}"}
    review, name = _match(REVIEW, text), NAME.search(text)
    holds = review[1] == "complaint" if name is None else review[2] == name[1]
    return {"content": f"Answer: {holds}"}


def _field(name: str, text: str) -> Any:
    match name:
        case "medications" if "One name" in text:
            return max(re.findall(r"<(\w+)>", text)).lower()
        case "medications":
            return list(dict.fromkeys(re.findall(r"takes (\w+)", text)))
        case "is_complaint":
            return _match(REVIEW, text)[1] == "complaint"
        case "score":
            return int(_match(REVIEW, text)[3])
        case "summary":
            return f"{len(set(re.findall(r'visit [0-9]+', text)))} visits"
    pair = PAIR.search(text)
    if pair is not None:
        return pair[1].lower() == pair[2].lower()
    return _match(REVIEW, text)[2] == _match(NAME, text)[1]


def _called(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": "call", "type": "function", "function": function}]}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _match(pattern: str | re.Pattern[str], text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    assert found is not None, f"nothing is scripted for: {text}"
    return found

"""This script looks like an interpreter with vLLM, and runs a server that answers as vLLM's does: for tests of
processes.

Written as a script of the standard library alone, so that it is up in a moment.
"""

from __future__ import annotations

import sys
from pathlib import Path

MODEL = "fake"
SCRIPT = """
import http.server, json, os, signal, subprocess, sys, threading

if sys.argv[1] == "-c":
    sys.exit(0)  # asked whether vLLM is there
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
folder = os.environ["FAKE_FOLDER"]
with open(os.path.join(folder, "starts"), "a") as file:
    file.write(arguments["--port"] + "\\n")
if os.path.exists(os.path.join(folder, "refuses")):
    sys.exit("no memory left")
if os.path.exists(os.path.join(folder, "is-stubborn")):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Without the environment, as vLLM's engine processes: they write their titles over it.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})


lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = {
            "/health": "",
            "/v1/models": json.dumps({"data": [{"id": arguments["--model"], "owned_by": "vllm"}]}),
            "/metrics": "vllm:num_requests_running{engine=\\"0\\"} 3.0\\n",
        }[self.path]
        self.reply(body, "application/json")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(os.path.join(folder, "asked"), "a") as file:
            file.write(json.dumps({"port": arguments["--port"], **asked}) + "\\n")
        if self.dies():
            os.kill(os.getpid(), signal.SIGKILL)
        text = asked["messages"][-1]["content"].upper()
        events = [
            {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
        ]
        lines = [f"data: {json.dumps(one)}\\n\\n" for one in events]
        self.reply("".join(lines) + "data: [DONE]\\n\\n", "text/event-stream")

    def dies(self):
        path = os.path.join(folder, "dies")
        with lock:
            if not os.path.exists(path):
                return False
            with open(os.path.join(folder, "asked")) as file:
                mine = [line for line in file if json.loads(line)["port"] == arguments["--port"]]
            if len(mine) < 8:
                return False
            os.remove(path)
            return True

    def reply(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer((arguments["--host"], int(arguments["--port"])), Handler).serve_forever()
"""


def write_fake_vllm(folder: Path) -> Path:
    """The interpreter, to be named as an engine's `python`. Each start of a server adds its port to the file `starts`
    in `folder`, each request its body to `asked`. While a file `refuses` is there, a server ends at once; while
    `is-stubborn` is, it ignores SIGTERM and has a child; while `dies` is, whoever is asked for the eighth time removes
    it and is killed by SIGKILL, with all that it was asked and has not answered."""
    path = folder / "python-with-vllm"
    path.write_text(f"#!{sys.executable}\n{SCRIPT}")
    path.chmod(0o755)
    return path


def flow_text(folder: Path, **options: object) -> str:
    """A flow whose engine `local` has servers of the fake; `options` beside what it needs."""
    block = {
        "kind": "vllm",
        "model": MODEL,
        "device": "cpu",
        "python": str(write_fake_vllm(folder)),
        "environment": {"FAKE_FOLDER": str(folder)},
        **options,
    }
    return FLOW.replace("ENGINE", repr(block).replace("True", "true"))


FLOW = """
name: served
engines:
  local: ENGINE
inputs:
  rows: {path: rows.jsonl}
nodes:
  say:
    llm: {engine: local, prompt: "row {{ row.id }}"}
outputs: {id: "{{ row.id }}", said: "{{ say.text }}"}
"""

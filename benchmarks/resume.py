"""Killed at random moments and continued each time: is the result the same, and how many calls were made twice?

The engine is an OpenAI-compatible server of this script, in its own process, that counts the requests it answers: an
account that sundog cannot embellish.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import subprocess
import tempfile
import time
from multiprocessing import Process, Value
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from machine import save, sundog

NUM_ROWS = 1500
NUM_STEPS = 3
MAX_CONCURRENCY = 16
LATENCY_S = 0.05
FLOW = """
name: resume
engines:
  counted: {{kind: openai, model: counted, base_url: "http://127.0.0.1:{port}/v1", max_concurrency: {concurrency}}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  read:
    llm: {{engine: counted, prompt: "Read {{{{ row.id }}}}"}}
  judge:
    llm: {{engine: counted, prompt: "Judge {{{{ row.id }}}}: {{{{ read.text }}}}", temperature: 0.7, seed: 1}}
  write:
    llm: {{engine: counted, prompt: "Write {{{{ row.id }}}}: {{{{ judge.text }}}}"}}
outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ write.text }}}}"}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    num_answered, port = Value("q", 0), Value("i", 0)
    server = Process(target=lambda: asyncio.run(serve(num_answered, port)), daemon=True)
    server.start()
    while port.value == 0:
        time.sleep(0.01)
    with tempfile.TemporaryDirectory(prefix="sundog-resume-") as name:
        result = measure(Path(name), port.value, num_answered, arguments.kills, random.Random(arguments.seed))
    server.kill()
    save("resume", {"seed": arguments.seed, **result})


def measure(folder: Path, port: int, num_answered: Any, num_kills: int, chance: random.Random) -> dict[str, Any]:
    rows = [json.dumps({"id": index}) for index in range(NUM_ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "flow.yaml").write_text(FLOW.format(port=port, concurrency=MAX_CONCURRENCY))
    undisturbed = run(folder, "undisturbed")
    one_pass = num_answered.value
    num_answered.value = 0
    killed = 0
    while killed < num_kills:
        # Some in the start-up, which takes about half a second, and most at work.
        assert start_and_kill(folder, "killed", chance.uniform(0.2, 1.2)), "it ended before the last kill"
        killed += 1
    resumed = run(folder, "killed")
    extra = num_answered.value - one_pass
    assert resumed == undisturbed, "the result differs"
    assert extra <= killed * MAX_CONCURRENCY, "more than the calls in flight were made again"
    return {
        "num_calls": NUM_ROWS * NUM_STEPS,
        "num_kills": killed,
        "one_pass_calls": one_pass,
        "calls_made_again": extra,
        "allowed_again": killed * MAX_CONCURRENCY,
        "is_result_equal": resumed == undisturbed,
    }


def command(folder: Path, name: str) -> list[str]:
    return sundog(
        "run", folder / "flow.yaml", "--output", folder / f"{name}.parquet", "--state", folder / name, "--quiet"
    )


def run(folder: Path, name: str) -> str:
    """Run to the end; the digest of the result."""
    subprocess.run(command(folder, name), check=True, stdout=subprocess.DEVNULL)
    return hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()


def start_and_kill(folder: Path, name: str, after_s: float) -> bool:
    """False when the run ended before it could be killed."""
    process = subprocess.Popen(command(folder, name), stdout=subprocess.DEVNULL)
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


async def serve(num_answered: Synchronized[int], port: Any) -> None:
    """Answer every chat completion with a function of its messages; count it when the answer has been sent."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        if not body:
            models = json.dumps({"object": "list", "data": [{"id": "counted", "object": "model"}]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(models), models))
            return
        with num_answered.get_lock():
            num_answered.value += 1
        await asyncio.sleep(LATENCY_S)
        text = hashlib.sha256(json.dumps(json.loads(body)["messages"]).encode()).hexdigest()[:16]
        usage = {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}
        events = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(data), data))
        await writer.drain()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port.value = server.sockets[0].getsockname()[1]
    await server.serve_forever()


if __name__ == "__main__":
    main()

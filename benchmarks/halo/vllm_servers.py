"""Three vLLM servers, one for each model, as a user would start them on this machine's CPU.

Owns their command lines, start and end. The interpreter is the one that SUNDOG_VLLM_PYTHON names (`make vllm` makes
it), the model the folder that SUNDOG_VLLM_MODEL names.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from sundog.errors import ConfigError, EngineUnavailable

BLOCK_TOKENS = 32
MAX_MODEL_TOKENS = 2048
READY_TIMEOUT_S = 240
STOP_TIMEOUT_S = 20
ENVIRONMENT = {
    # Threads that spin while they wait take the cores from the other two servers: two orders slower, seen once.
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Without it there is no address that empties the prefix cache.
    "VLLM_SERVER_DEV_MODE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class VLLMServers:
    """`base_urls`: of each model."""

    base_urls: Mapping[str, str]
    process_ids: tuple[int, ...]

    def forget(self) -> None:
        for url in self.base_urls.values():
            httpx.post(url.removesuffix("/v1") + "/reset_prefix_cache", timeout=60).raise_for_status()


@contextlib.contextmanager
def running_vllm(models: Sequence[str], kv_tokens: int, max_concurrency: int) -> Iterator[VLLMServers]:
    """Servers that live as long as the block, started one after the other; ConfigError without an interpreter or a
    model, EngineUnavailable for a server that does not start."""
    python, weights = _required("SUNDOG_VLLM_PYTHON"), _required("SUNDOG_VLLM_MODEL")
    with tempfile.TemporaryDirectory(prefix="sundog-vllm-") as folder, contextlib.ExitStack() as stack:
        urls, ids = {}, []
        for model in models:
            command, url = _command(python, weights, model, kv_tokens, max_concurrency)
            server = stack.enter_context(_running(command, Path(folder) / f"{model}.log", url))
            urls[model] = f"{url}/v1"
            ids.append(server.pid)
        yield VLLMServers(urls, tuple(ids))


def _required(variable: str) -> str:
    if not os.environ.get(variable):
        raise ConfigError(f"{variable} is not set", hint="make vllm; the model is a folder that vLLM can load")
    return os.environ[variable]


def _command(python: str, weights: str, model: str, kv_tokens: int, max_concurrency: int) -> tuple[list[str], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A running request needs its blocks whatever the size asked for.
    num_blocks = max(kv_tokens, MAX_MODEL_TOKENS) // BLOCK_TOKENS + 1
    arguments = {
        "--model": weights,
        "--served-model-name": model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": str(MAX_MODEL_TOKENS),
        "--block-size": str(BLOCK_TOKENS),
        "--num-gpu-blocks-override": str(num_blocks),
        "--max-num-seqs": str(max_concurrency),
    }
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    command += [part for pair in arguments.items() for part in pair]
    return [*command, "--enforce-eager", "--enable-prompt-tokens-details"], f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(command: list[str], log_path: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    # The servers of three models share the cores.
    num_threads = max(1, (os.cpu_count() or 1) // 3)
    environment = {"OMP_NUM_THREADS": str(num_threads), **ENVIRONMENT, **os.environ}
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait_until_ready(server, f"{url}/health", log_path)
        yield server
    finally:
        _stop(server)


def _wait_until_ready(server: subprocess.Popen[bytes], health_url: str, log_path: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(health_url, timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise EngineUnavailable("a vLLM server did not start", hint=log_path.read_text(errors="replace")[-2000:])


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: politely, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)
            return

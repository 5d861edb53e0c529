"""The gateways that are compared, each as a command and the files that it needs.

Owns their settings: one process, no log of requests, no keys, no database; else as they come. Starts none of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.processes import free_port
from gateway.upstream import MODEL

ENGINE = "front"


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway that can be started."""

    command: Sequence[str]
    #: The base URL at which it is asked, and the name by which the model is asked for.
    url: str
    model: str = MODEL
    environment: Mapping[str, str] = field(default_factory=dict)


def sundog_gateway(upstream: str, port: int, folder: Path, command: str) -> Gateway:
    """Return `sundog serve` with one engine, without a bound of its own on what is in flight."""
    engine = {"kind": "openai", "base_url": upstream, "model": MODEL, "max_concurrency": 4096}
    file = folder / "engines.yaml"
    file.write_text(json.dumps({"engines": {ENGINE: engine}}))
    arguments = ["serve", "--engines", str(file), "--port", str(port), "--state", str(folder / "state")]
    arguments += ["--log-level", "warning"]  # the other gateways log no requests either
    return Gateway([*command.split(), *arguments], f"http://127.0.0.1:{port}/v1")


def litellm_gateway(upstream: str, port: int, folder: Path, command: str) -> Gateway:
    """Return LiteLLM's proxy with one model and one worker."""
    deployment = {"model": f"openai/{MODEL}", "api_base": upstream, "api_key": "none"}
    file = folder / "litellm.yaml"
    file.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": deployment}]}))
    arguments = ["--config", str(file), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    arguments += ["--telemetry", "False"]
    return Gateway([*command.split(), *arguments], f"http://127.0.0.1:{port}/v1", environment=environment)


def vllm_router_gateway(upstream: str, port: int, folder: Path, command: str) -> Gateway:
    """Return vLLM's router over one worker."""
    root = upstream.removesuffix("/v1")
    arguments = ["--worker-urls", root, "--policy", "round_robin", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--max-concurrent-requests", "4096", "--log-level", "error", "--prometheus-port", str(free_port())]
    return Gateway([*command.split(), *arguments], f"http://127.0.0.1:{port}/v1")


GATEWAYS: Mapping[str, Callable[[str, int, Path, str], Gateway]] = {
    "sundog": sundog_gateway,
    "sundog_other": sundog_gateway,
    "litellm": litellm_gateway,
    "vllm_router": vllm_router_gateway,
}
OWN_COMMAND = f"{sys.executable} -m sundog"

"""A real vLLM server on the CPU, for tests: a tiny Llama with made-up weights, so that nothing is downloaded.

Its vocabulary is the 256 bytes and three special tokens; its answers are noise, but the same noise every time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import httpx

ROOT = Path(__file__).parents[2]
MODEL = "tiny"
MAX_MODEL_LEN = 512
MAX_POSITIONS = 32_768
READY_TIMEOUT_S = 240
STOP_TIMEOUT_S = 20

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def python_with_vllm() -> Path:
    """The interpreter that SUNDOG_VLLM_PYTHON names, else that of `.venv-vllm` in the repository."""
    return Path(os.environ.get("SUNDOG_VLLM_PYTHON") or ROOT / ".venv-vllm" / "bin" / "python")


def why_not() -> str | None:
    """Why vLLM cannot run here; None when it can."""
    python = python_with_vllm()
    if not python.is_file():
        return f"vLLM is not installed here ({python} is missing): make vllm, or set SUNDOG_VLLM_PYTHON"
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    if subprocess.run([python, "-c", probe], check=False).returncode:
        return f"{python} has no vLLM: make vllm, or set SUNDOG_VLLM_PYTHON"
    return None


def write_model(folder: Path) -> None:
    tokens = (*SPECIAL_TOKENS, *byte_characters())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": MAX_POSITIONS,
        "vocab_size": 320,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[1],
        "eos_token": SPECIAL_TOKENS[2],
        "pad_token": SPECIAL_TOKENS[2],
        "chat_template": CHAT_TEMPLATE,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for i, token in enumerate(SPECIAL_TOKENS)
        ],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": []},
    }
    folder.mkdir(parents=True)
    for name, value in (
        ("config.json", config),
        ("tokenizer_config.json", tokenizer_config),
        ("tokenizer.json", tokenizer),
    ):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def byte_characters() -> list[str]:
    """Return what stands for each byte in a byte-level vocabulary: itself, or one from U+0100 on if it does not
    print."""
    prints = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in prints else next(others)) for byte in range(256)]


@contextlib.contextmanager
def running_vllm(
    folder: Path, options: Mapping[str, str] = MappingProxyType({}), variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """The base_url of a server that lives as long as the block. `options` and `variables` (of its environment) go
    before what is set here."""
    write_model(folder / MODEL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = {
        "--model": str(folder / MODEL),
        "--served-model-name": MODEL,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--load-format": "dummy",
        "--dtype": "float32",
        "--max-model-len": str(MAX_MODEL_LEN),
        "--block-size": "32",
        "--scheduling-policy": "priority",
        # Noise would fill an answer with the white space that JSON allows.
        "--structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
    }
    arguments |= options
    command = [str(python_with_vllm()), "-m", "vllm.entrypoints.openai.api_server"]
    command += [part for pair in arguments.items() for part in pair]
    command += ["--enforce-eager", "--enable-prompt-tokens-details"]
    environment = os.environ | {
        # Two threads of so small a model spend their time waiting for each other.
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        **variables,
    }
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}/health", log_path)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop(server)


def wait_until_ready(server: subprocess.Popen[bytes], health_url: str, log_path: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert server.poll() is None, f"vLLM ended at its start:\n{log_path.read_text()[-4000:]}"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(health_url, timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"vLLM was not ready in {READY_TIMEOUT_S} s:\n{log_path.read_text()[-4000:]}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: politely, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)
            return

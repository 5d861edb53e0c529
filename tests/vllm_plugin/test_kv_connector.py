"""The connector in real vLLM engines, each in a process of its own, on a tiny model with made-up weights."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines.vllm_server import python_with_vllm, why_not, write_model

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("kv_engine.py")
BLOCK_TOKENS = 32
WRITE_TIMEOUT_S = 30
MAX_BYTES = 50_000_000
OPTIONS = {
    "load_format": "dummy",
    "dtype": "float32",
    "max_model_len": 1536,
    "block_size": BLOCK_TOKENS,
    "enforce_eager": True,
    "num_gpu_blocks_override": 60,
}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "src"),
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class EngineProcess:
    """`log`: where the engine's own messages go."""

    def __init__(self, model: Path, folder: Path, log: Path, **changed: Any) -> None:
        sharing = {
            "kv_connector": "SundogKVConnector",
            "kv_connector_module_path": "sundog.vllm_plugin.kv.connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"folder": str(folder), "max_bytes": MAX_BYTES},
        }
        options = OPTIONS | {"kv_transfer_config": sharing} | changed
        self.log = log
        with log.open("wb") as messages:
            self.process = subprocess.Popen(
                [python_with_vllm(), SCRIPT, model, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env=os.environ | ENVIRONMENT,
            )

    def tell(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                return json.loads(line)
        raise AssertionError(f"the engine ended:\n{self.log.read_text()[-4000:]}")

    def ask(self, prompt: list[int]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(prompt) + "\n")
        self.process.stdin.flush()
        return self.tell()

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


@dataclass
class Engines:
    """`one` and `two` are replicas, `other` has other settings, `stock` no connector; `refused` cannot start."""

    folder: Path
    one: EngineProcess
    two: EngineProcess
    other: EngineProcess
    stock: EngineProcess
    refused: EngineProcess


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("kv")
    model, folder = place / "model", place / "shared"
    write_model(model)
    changes: dict[str, dict[str, Any]] = {
        "one": {},
        "two": {},
        "other": {"max_model_len": 1024},
        "stock": {"kv_transfer_config": None},
        "refused": {"prefix_caching_hash_algo": "xxhash_cbor"},
    }
    started = {
        name: EngineProcess(model, folder, place / f"{name}.log", **changed) for name, changed in changes.items()
    }
    try:
        for name in ("one", "two", "other", "stock"):
            assert started[name].tell() == "ready"
        yield Engines(folder, **started)
    finally:
        for engine in started.values():
            engine.stop()


def prompt_of(num_tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(3, 259), k=num_tokens)


def files(engines: Engines) -> list[Path]:
    """The blocks' files, the one used last first."""
    found = [path for path in (engines.folder / "blocks").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def wait_for_blocks(engines: Engines, num_blocks: int) -> None:
    """Until the writers' threads have written so many blocks in all."""
    deadline_s = time.monotonic() + WRITE_TIMEOUT_S
    while len(files(engines)) < num_blocks:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    # The last file may have no time of use yet.
    time.sleep(0.1)


def test_a_replica_loads_what_another_computed(engines: Engines) -> None:
    prompt = prompt_of(1025, seed=1)
    before = len(files(engines))
    computed = engines.one.ask(prompt)
    wait_for_blocks(engines, before + 32)
    loaded = engines.two.ask(prompt)
    assert computed["num_cached_tokens"] == 0
    assert loaded["num_cached_tokens"] == 1024
    assert loaded["token_ids"] == computed["token_ids"] == engines.stock.ask(prompt)["token_ids"]


def test_a_partial_prefix_is_reused(engines: Engines) -> None:
    prefix = prompt_of(1024, seed=2)
    before = len(files(engines))
    engines.one.ask(prefix + prompt_of(40, seed=3))
    wait_for_blocks(engines, before + 33)
    prompt = prefix + prompt_of(100, seed=4)
    loaded = engines.two.ask(prompt)
    assert loaded["num_cached_tokens"] == 1024
    assert loaded["token_ids"] == engines.stock.ask(prompt)["token_ids"]


def test_what_was_loaded_is_the_replicas_own(engines: Engines) -> None:
    prompt = prompt_of(321, seed=5)
    before = len(files(engines))
    computed = engines.one.ask(prompt)
    wait_for_blocks(engines, before + 10)
    engines.two.ask(prompt)
    for path in files(engines)[:10]:
        path.unlink()
    assert engines.two.ask(prompt) == {"token_ids": computed["token_ids"], "num_cached_tokens": 320}


def test_the_output_is_shared_too(engines: Engines) -> None:
    prompt = prompt_of(60, seed=6)
    before = len(files(engines))
    told = engines.one.ask(prompt)["token_ids"]
    wait_for_blocks(engines, before + 2)
    assert engines.two.ask(prompt + told)["num_cached_tokens"] == 64


def test_another_engines_blocks_are_not_seen(engines: Engines) -> None:
    prompt = prompt_of(321, seed=7)
    before = len(files(engines))
    engines.one.ask(prompt)
    wait_for_blocks(engines, before + 10)
    assert engines.other.ask(prompt)["num_cached_tokens"] == 0


@pytest.mark.parametrize("position", [0, 5, 19])
def test_a_damaged_block_is_computed_again(engines: Engines, position: int) -> None:
    prompt = prompt_of(641, seed=10 + position)
    before = len(files(engines))
    computed = engines.one.ask(prompt)
    wait_for_blocks(engines, before + 20)
    damaged = files(engines)[position]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    again = engines.two.ask(prompt)
    assert again["token_ids"] == computed["token_ids"]
    assert not damaged.exists() or not damaged.read_bytes().endswith(b"?")
    assert engines.two.ask(prompt) == {"token_ids": computed["token_ids"], "num_cached_tokens": 640}


def test_hashes_that_differ_between_processes_are_refused(engines: Engines) -> None:
    assert engines.refused.process.wait(240) != 0
    assert "start vLLM with --prefix-caching-hash-algo sha256_cbor" in engines.refused.log.read_text()

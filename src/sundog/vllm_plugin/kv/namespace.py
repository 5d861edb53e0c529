"""The namespace of an engine: which engines may share KV blocks with it, and what cannot be shared at all.

Owns the facts that make two engines' blocks the same bytes for the same hash. Reads vLLM's configuration by name and
imports nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from pathlib import Path
from typing import Any

from sundog.errors import ConfigError

WHERE = "KV connector"
# Hashes of pickled values are those of one version of Python; vLLM seeds what is no cryptographic hash at random.
PICKLED = ("sha256", "xxhash")
SEEDED_AT_RANDOM = ("xxhash", "xxhash_cbor")
KNOWN_HASHES = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")
# The files that may change between two models in one folder: their weights and all that describes them.
MODEL_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.json")


def check_hashing(algorithm: str, python_hash_seed: str | None) -> str:
    """Return what block hashes depend on besides the tokens; ConfigError when another process would get other
    hashes."""
    if algorithm not in KNOWN_HASHES:
        raise ConfigError(
            f"block hashes by '{algorithm}' are not known to be equal in all processes",
            where=WHERE,
            hint="start vLLM with --prefix-caching-hash-algo sha256_cbor",
        )
    if algorithm in SEEDED_AT_RANDOM and python_hash_seed is None:
        raise ConfigError(
            f"block hashes by '{algorithm}' start from a random seed in each process: no other replica finds a block",
            where=WHERE,
            hint="start vLLM with --prefix-caching-hash-algo sha256_cbor, or set one PYTHONHASHSEED everywhere",
        )
    version = platform.python_version() if algorithm in PICKLED else ""
    return f"{algorithm} {version} {python_hash_seed or ''}"


def check_shareable(vllm_config: Any) -> None:
    """Raise ConfigError for what an engine does that the blocks' hashes do not tell."""
    parallel, speculative = vllm_config.parallel_config, vllm_config.speculative_config
    if not vllm_config.cache_config.enable_prefix_caching:
        raise _refusal("prefix caching is off, so nothing has a block hash", "start vLLM with --enable-prefix-caching")
    for name in ("pipeline_parallel_size", "decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) > 1:
            raise _refusal(f"{name} is {getattr(parallel, name)}", "KV blocks are shared with tensor parallelism only")
    if speculative is not None and speculative.method not in ("ngram", "suffix"):
        raise _refusal(
            f"drafts by '{speculative.method}' keep KV blocks of their own",
            "use ngram drafts, or none, to share blocks",
        )


def describe_kv_layout(vllm_config: Any, kv_cache_config: Any, *, hashing: str, engine: str) -> dict[str, str]:
    """Return all that decides the bytes of a block besides its hash. `engine`: version and device of vLLM."""
    model, cache = vllm_config.model_config, vllm_config.cache_config
    return {
        "model": _model_identity(model),
        "architecture": _digest(model.hf_config.to_dict()),
        "max_model_len": str(model.max_model_len),
        "dtype": str(model.dtype),
        "quantization": str(model.quantization),
        "weights": str(vllm_config.load_config.load_format),
        "cache_dtype": str(cache.cache_dtype),
        "block_tokens": str(cache.block_size),
        "layout": str(kv_cache_config.kv_cache_layout),
        "layers": _digest([str(kv_cache_config.kv_cache_groups[0].kv_cache_spec), _layer_names(kv_cache_config)]),
        "tensor_parallel_size": str(vllm_config.parallel_config.tensor_parallel_size),
        "attention": str(vllm_config.attention_config.backend),
        "hashing": hashing,
        "engine": engine,
    }


def namespace_name(description: dict[str, str]) -> str:
    """Return a folder's name: readable, and different for every description."""
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", Path(description["model"].partition("@")[0]).name).strip("-")[:40]
    return f"{slug or 'model'}-{_digest(description)[:24]}"


def _layer_names(kv_cache_config: Any) -> list[str]:
    return list(kv_cache_config.kv_cache_groups[0].layer_names)


def _model_identity(model: Any) -> str:
    """Return a folder with the state of its files, or a name in a hub with the commit."""
    folder = Path(model.model)
    if folder.is_dir():
        files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
        states = [(path.name, status.st_size, status.st_mtime_ns) for path in files if (status := path.stat())]
        return f"{folder.resolve()}@{_digest(states)}"
    commit = getattr(model.hf_config, "_commit_hash", None)
    if commit is None:
        raise _refusal(
            f"the weights of '{model.model}' have no version, so blocks of older weights could be taken for theirs",
            "give vLLM a folder, or a hub model with --revision",
        )
    return f"{model.model}@{commit}"


def _refusal(what: str, hint: str) -> ConfigError:
    return ConfigError(what, where=WHERE, hint=hint)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

"""The engines that share blocks, and those that do not share any."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sundog.errors import ConfigError
from sundog.vllm_plugin.kv.namespace import check_hashing, check_shareable, describe_kv_layout, namespace_name


@pytest.mark.parametrize(
    ("algorithm", "seed"),
    [("sha256", None), ("sha256", "7"), ("sha256_cbor", None), ("xxhash", "7"), ("xxhash_cbor", "7")],
)
def test_hashes_that_are_equal_everywhere_are_taken(algorithm: str, seed: str | None) -> None:
    assert algorithm in check_hashing(algorithm, seed)


@pytest.mark.parametrize(("algorithm", "seed"), [("xxhash", None), ("xxhash_cbor", None), ("builtin", "7")])
def test_hashes_that_another_process_would_not_get_are_refused(algorithm: str, seed: str | None) -> None:
    with pytest.raises(ConfigError, match=algorithm) as caught:
        check_hashing(algorithm, seed)
    assert "--prefix-caching-hash-algo sha256_cbor" in str(caught.value)


def test_what_seeds_the_hashes_tells_engines_apart() -> None:
    assert len({check_hashing("sha256_cbor", seed) for seed in (None, "1", "2")}) == 3
    assert check_hashing("sha256", None) != check_hashing("sha256_cbor", None)


def engine(folder: Path, **changed: Any) -> SimpleNamespace:
    """A vLLM configuration, as far as it is read; `changed` by dotted names."""
    config = SimpleNamespace(
        model_config=SimpleNamespace(
            model=str(folder),
            hf_config=SimpleNamespace(to_dict=lambda: {"num_hidden_layers": 2}),
            max_model_len=512,
            dtype="bfloat16",
            quantization=None,
        ),
        cache_config=SimpleNamespace(cache_dtype="auto", block_size=32, enable_prefix_caching=True),
        load_config=SimpleNamespace(load_format="auto"),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        attention_config=SimpleNamespace(backend=None),
        speculative_config=None,
    )
    for name, value in changed.items():
        part, _, attribute = name.partition("__")
        setattr(getattr(config, part), attribute, value)
    return config


def name_of(config: SimpleNamespace, *, layout: str = "NHD", hashing: str = "sha256", device: str = "cpu") -> str:
    group = SimpleNamespace(kv_cache_spec="spec", layer_names=["0", "1"])
    cache = SimpleNamespace(kv_cache_groups=[group], kv_cache_layout=layout)
    return namespace_name(describe_kv_layout(config, cache, hashing=hashing, engine=device))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_same_engine_has_the_same_namespace(model: Path) -> None:
    assert name_of(engine(model)) == name_of(engine(model))
    assert name_of(engine(model)).startswith("model-")


def test_whatever_changes_the_bytes_changes_the_namespace(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "model"
    other.mkdir(parents=True)
    configs = [
        engine(model),
        engine(other),
        engine(model, model_config__dtype="float32"),
        engine(model, model_config__quantization="awq"),
        engine(model, model_config__max_model_len=1024),
        engine(model, model_config__hf_config=SimpleNamespace(to_dict=lambda: {"num_hidden_layers": 3})),
        engine(model, cache_config__block_size=64),
        engine(model, cache_config__cache_dtype="fp8"),
        engine(model, load_config__load_format="dummy"),
        engine(model, parallel_config__tensor_parallel_size=2),
        engine(model, attention_config__backend="FLASH"),
    ]
    names = [name_of(config) for config in configs]
    names += [name_of(engine(model), layout="HND"), name_of(engine(model), hashing="sha256_cbor")]
    names += [name_of(engine(model), device="cuda")]
    assert len(set(names)) == len(names)


def test_new_weights_in_the_same_folder_are_another_model(model: Path) -> None:
    before = name_of(engine(model))
    os.utime(model / "model.safetensors", ns=(1, 1))
    assert name_of(engine(model)) != before


def test_a_hub_model_is_known_by_its_commit() -> None:
    def of(commit: str | None) -> str:
        hf_config = SimpleNamespace(to_dict=dict, _commit_hash=commit)
        return name_of(engine(Path("org/name"), model_config__hf_config=hf_config))

    assert of("a") != of("b")
    with pytest.raises(ConfigError, match="have no version"):
        of(None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cache_config__enable_prefix_caching": False}, "prefix caching is off"),
        ({"parallel_config__pipeline_parallel_size": 2}, "pipeline_parallel_size is 2"),
        ({"parallel_config__decode_context_parallel_size": 2}, "decode_context_parallel_size is 2"),
    ],
)
def test_what_cannot_be_shared_is_refused(model: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_shareable(engine(model, **changed))


def test_drafts_with_blocks_of_their_own_are_refused(model: Path) -> None:
    config = engine(model)
    check_shareable(config)
    config.speculative_config = SimpleNamespace(method="ngram")
    check_shareable(config)
    config.speculative_config = SimpleNamespace(method="eagle")
    with pytest.raises(ConfigError, match="eagle"):
        check_shareable(config)

"""The connector's options: what is refused, and in which words."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import ConfigError
from sundog.vllm_plugin.kv.decision import PrefillCost
from sundog.vllm_plugin.kv.options import KVOptions, open_folder, read_kv_options, read_prefill_cost
from tests.docs.pages import ROOT, blocks

GOOD = {"folder": "/dev/shm/kv", "max_bytes": 1000}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_bytes": 1}, "'folder' is missing"),
        ({"folder": "/a"}, "'max_bytes' is missing"),
        (GOOD | {"max_byte": 1}, "unknown option 'max_byte'\n  did you mean 'max_bytes'"),
        (GOOD | {"folder": "kv"}, "'folder' is not an absolute path: 'kv'"),
        (GOOD | {"max_bytes": 0}, "'max_bytes' is 0: input should be greater than 0"),
        (GOOD | {"max_bytes": "8GB"}, "'max_bytes' is '8GB': input should be a valid integer"),
        (GOOD | {"prefill_s_per_token": -1.0}, "'prefill_s_per_token' is -1.0"),
        (GOOD | {"prefill_s_per_token": 1e-3, "profile": "/p"}, "both say what prefill costs"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_kv_options(given)
    assert message in str(caught.value)
    assert "kv_connector_extra_config" in str(caught.value)


def test_the_page_shows_what_is_accepted() -> None:
    page = ROOT / "docs" / "vllm_kv.md"
    (shown,) = (json.loads(block.text) for block in blocks(page) if block.language == "json")
    options = read_kv_options(shown["kv_connector_extra_config"])
    assert options.max_bytes == 8_000_000_000
    assert importlib.util.find_spec(shown["kv_connector_module_path"]) is not None
    assert all(f"| `{name}` |" in page.read_text() for name in KVOptions.model_fields)


def test_the_folder_is_made_and_closed_to_others(tmp_path: Path) -> None:
    folder = open_folder(KVOptions(folder=str(tmp_path / "a" / "kv"), max_bytes=1))
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_folder_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv").chmod(mode)
    with pytest.raises(ConfigError, match="other users"):
        open_folder(KVOptions(folder=str(tmp_path / "kv"), max_bytes=1))


def test_more_bytes_than_the_file_system_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has .* in all"):
        open_folder(KVOptions(folder=str(tmp_path), max_bytes=10**18))


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("")
    with pytest.raises(ConfigError, match="the folder cannot be used"):
        open_folder(KVOptions(folder=str(tmp_path / "kv"), max_bytes=1))


def test_the_prefill_cost_comes_from_options_or_a_profile(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"step_time": {"prefill_token_s": 0.001, "attention_pair_s": 1e-6, "step_s": 0.02}}))
    assert read_prefill_cost(read_kv_options(GOOD)) is None
    assert read_prefill_cost(read_kv_options(GOOD | {"prefill_s_per_token": 0.002})) == PrefillCost(0.002)
    assert read_prefill_cost(read_kv_options(GOOD | {"profile": str(profile)})) == PrefillCost(0.001, 1e-6)


@pytest.mark.parametrize("content", ["", "{}", '{"step_time": {"prefill_token_s": "x"}}', '{"step_time": 1}'])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    profile = tmp_path / "p.json"
    profile.write_text(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prefill_cost(read_kv_options(GOOD | {"profile": str(profile)}))

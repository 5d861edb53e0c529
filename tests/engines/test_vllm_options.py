"""The options of `kind: vllm`, and the command that they make."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import ValidationError

from sundog.engines.vllm.command import python_of, server_argv, server_environment
from sundog.engines.vllm.engine import VLLMKind, VLLMOptions
from sundog.errors import ConfigError
from sundog.secrets import Secrets

URLS = ["http://a:8000/v1", "http://b:8000/v1"]


@pytest.mark.parametrize(
    ("written", "replicas", "max_concurrency"),
    [
        ({}, 1, 256),
        ({"replicas": 3}, 3, 256),
        ({"base_url": URLS}, 2, 256),
        ({"base_url": URLS[0], "max_concurrency": 7}, 1, 7),
        ({"arguments": {"max-num-seqs": 64}}, 1, 64),
        ({"arguments": {"max_num_seqs": 64}, "max_concurrency": 80}, 1, 80),
    ],
)
def test_what_is_left_out_follows_from_the_servers(
    written: dict[str, Any], replicas: int, max_concurrency: int
) -> None:
    options = VLLMOptions.model_validate({"model": "m", **written})
    assert (options.replicas, options.max_concurrency) == (replicas, max_concurrency)
    assert VLLMOptions.model_validate(options.model_dump(mode="json")) == options, "as a plan gives them back"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"base_url": URLS, "replicas": 3}, "every base_url is one replica"),
        ({"base_url": URLS[0], "arguments": {"dtype": "float32"}}, "'arguments' is for servers that sundog starts"),
        ({"base_url": URLS[0], "start": True}, "'start' is for servers that sundog starts"),
        ({"arguments": {"model": "x"}}, "write it as the block's 'model'"),
        ({"arguments": {"served-model-name": "x"}}, "write it as the block's 'model'"),
        ({"arguments": {"port": 1}}, "sundog chooses it"),
    ],
)
def test_what_contradicts_itself_is_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VLLMOptions.model_validate({"model": "m", **written})


def test_arguments_become_words() -> None:
    arguments: dict[str, Any] = {"enforce_eager": True, "enable_prefix_caching": False, "max-model-len": 64}
    more: dict[str, Any] = {"hf_overrides": {"num_hidden_layers": 2}, "lora_modules": ["a=x", "b=y"]}
    assert server_argv("python", "m", "127.0.0.1", 5, {**arguments, **more})[9:] == (
        *("--scheduling-policy", "priority"),
        *("--enforce-eager", "--no-enable-prefix-caching", "--max-model-len", "64"),
        *("--hf-overrides", '{"num_hidden_layers": 2}', "--lora-modules", "a=x", "b=y"),
    )


@pytest.mark.parametrize("key", ["scheduling_policy", "scheduler-cls"])
def test_who_names_a_scheduler_gets_no_other(key: str) -> None:
    argv = server_argv("python", "m", "127.0.0.1", 5, {key: "fcfs"})
    assert argv.count("--scheduling-policy") == (key == "scheduling_policy")
    assert "priority" not in argv


@pytest.mark.parametrize(
    ("arguments", "written", "outside", "expected"),
    [
        ({}, {}, {}, "1"),
        ({"tensor_parallel_size": 2}, {}, {}, "2,3"),
        ({"tensor_parallel_size": 2}, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, {}, "6,7"),
        ({}, {}, {"CUDA_VISIBLE_DEVICES": "3, 5"}, "5"),
    ],
)
def test_each_replica_takes_its_gpus(
    arguments: dict[str, Any], written: dict[str, str], outside: dict[str, str], expected: str
) -> None:
    assert server_environment("gpu", 1, 2, arguments, written, outside)["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    ("written", "outside"), [({"CUDA_VISIBLE_DEVICES": "0,1,2"}, {}), ({}, {"CUDA_VISIBLE_DEVICES": "7"})]
)
def test_no_replica_is_left_without_gpus(written: dict[str, str], outside: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"2 replicas take 4 GPUs, and CUDA_VISIBLE_DEVICES names [13]"):
        server_environment("gpu", 1, 2, {"tensor_parallel_size": 2}, written, outside)


def test_the_gpus_of_a_block_have_room_for_so_many_replicas() -> None:
    named = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert VLLMOptions(model="m", environment=named, arguments={"tensor_parallel_size": 2}).max_replicas() == 2
    assert VLLMOptions(model="m", environment=named, device="cpu").max_replicas() is None
    assert VLLMOptions(model="m", environment={"CUDA_VISIBLE_DEVICES": "${env:GPUS}"}).max_replicas() is None
    assert VLLMOptions(model="m").max_replicas() is None


def test_one_replica_leaves_the_gpus_to_vllm() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in server_environment("gpu", 0, 1, {}, {}, {})


def test_the_block_decides_before_what_a_cpu_needs() -> None:
    found = server_environment("cpu", 0, 1, {}, {"OMP_NUM_THREADS": "3"}, {})
    assert (found["OMP_NUM_THREADS"], found["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "nobind")


def test_the_interpreter_is_the_blocks_the_environments_or_this_one() -> None:
    assert python_of("/a/python", {"SUNDOG_VLLM_PYTHON": "/b"}) == "/a/python"
    assert python_of(None, {"SUNDOG_VLLM_PYTHON": "/b"}) == "/b"
    assert python_of(None, {}) == sys.executable


def test_an_interpreter_without_vllm_is_named() -> None:
    options = VLLMOptions(model="m", python="/no/such/python")
    with pytest.raises(ConfigError, match="/no/such/python cannot be run"):
        VLLMKind().server(options, 0, 5, Secrets({}))


def test_a_key_is_on_no_command_line_and_in_no_identity() -> None:
    options = VLLMOptions(model="m", python="/bin/true", api_key="${env:KEY}")
    command = VLLMKind().server(options, 0, 5, Secrets({"KEY": "sk-of-the-test"}))
    assert command.environment["VLLM_API_KEY"] == "sk-of-the-test"
    assert "sk-of-the-test" not in str((command.argv, command.identity))


def test_what_changes_answers_is_the_identity() -> None:
    def identity(**arguments: Any) -> Any:
        return VLLMKind().identity(VLLMOptions(model="m", arguments=arguments))

    assert identity(max_num_seqs=3, block_size=16) == identity()
    assert identity(dtype="float32") != identity()
    attached = VLLMOptions(model="m", base_url=URLS[0])
    assert VLLMKind().identity(attached) == identity()


def test_a_replica_without_a_server_says_what_to_run() -> None:
    with pytest.raises(ConfigError, match="are not up") as caught:
        VLLMKind().open(VLLMOptions(model="m"), 0, Secrets({}))
    assert "sundog engine up" in str(caught.value.hint)

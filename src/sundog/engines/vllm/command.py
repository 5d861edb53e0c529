"""The command line and environment of a vLLM server, from an engine block.

Owns the spelling of vLLM's options and what a machine without a GPU needs. Never starts a process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

from sundog.errors import ConfigError

Device = Literal["gpu", "cpu"]
ServerArgument = bool | int | float | str | list[Any] | dict[str, Any]

# `vllm serve` fails with the CPU builds, whose package has another name.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
PYTHON_VARIABLE = "SUNDOG_VLLM_PYTHON"
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
# Said by other keys of the block, or chosen at the start.
RESERVED = {"model": "model", "served_model_name": "model", "api_key": "api_key", "host": None, "port": None}
SWITCHES = {"scheduling_policy", "scheduler_cls"}


def python_of(written: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the interpreter that has vLLM: the block's, that of SUNDOG_VLLM_PYTHON, or the one that runs this."""
    return written or environment.get(PYTHON_VARIABLE) or sys.executable


def argument_name(key: str) -> str:
    """Return the name as Python spells it: `max-num-seqs` and `max_num_seqs` are one option."""
    return key.replace("-", "_")


def server_argv(
    python: str, model: str, host: str, port: int, arguments: Mapping[str, ServerArgument]
) -> tuple[str, ...]:
    """Return the command that starts one server, which listens at an address of its machine.

    `arguments`: true and false are switches; a list gives several values; a mapping is written as JSON. Where none of
    them says who schedules, the server ranks by the requests' priority.
    """
    command = [python, "-m", SERVER_MODULE, "--model", model, "--host", host, "--port", str(port)]
    if not SWITCHES & {argument_name(key) for key in arguments}:
        command += ["--scheduling-policy", "priority"]
    for key, value in arguments.items():
        command += _words(argument_name(key).replace("_", "-"), value)
    return tuple(command)


def _words(option: str, value: ServerArgument) -> list[str]:
    match value:
        case True:
            return [f"--{option}"]
        case False:
            return [f"--no-{option}"]
        case list():
            return [f"--{option}", *(_text(one) for one in value)]
    return [f"--{option}", _text(value)]


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def server_environment(
    device: Device,
    replica: int,
    num_replicas: int,
    arguments: Mapping[str, ServerArgument],
    written: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return what a server gets beside this process's environment; `written` comes before all of it, but for GPUs, of
    which each replica takes its part. ConfigError where there are not enough of them for all replicas."""
    own = {"VLLM_NO_USAGE_STATS": "1"}
    if device == "gpu":
        visible = named_gpus(written) or named_gpus(environment)
        shared = _gpus(replica, num_replicas, gpus_of_replica(arguments), visible)
        return {**own, **written, VISIBLE_GPUS: shared} if num_replicas > 1 else {**own, **written}
    # vLLM's own binding puts every server of a machine on the same first core.
    num_threads = max(1, (os.cpu_count() or 1) // num_replicas)
    own |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(num_threads)}
    return {**own, **written}


def named_gpus(variables: Mapping[str, str]) -> list[str]:
    """Return the GPUs that a server may use, by the variables of its environment; empty where they name none."""
    return [one.strip() for one in variables.get(VISIBLE_GPUS, "").split(",") if one.strip()]


def gpus_of_replica(arguments: Mapping[str, ServerArgument]) -> int:
    """Return how many GPUs one replica takes.

    >>> gpus_of_replica({"tensor_parallel_size": 2, "pipeline_parallel_size": 2})
    4
    """
    sizes = (arguments.get(key, 1) for key in ("tensor_parallel_size", "pipeline_parallel_size"))
    return prod(size if isinstance(size, int) else 1 for size in sizes)


def replicas_with_room(
    device: Device, arguments: Mapping[str, ServerArgument], variables: Mapping[str, str]
) -> int | None:
    """Return how many replicas have room on the GPUs that an engine block names; None where it names none."""
    named = named_gpus(variables) if device == "gpu" else []
    # A secret stands for text that is not known here.
    return None if not named or "${" in variables[VISIBLE_GPUS] else len(named) // gpus_of_replica(arguments)


def _gpus(replica: int, num_replicas: int, num_gpus: int, visible: Sequence[str]) -> str:
    """Return the replica's part of the GPUs that may be used; of all where nothing says which those are."""
    if num_replicas > 1 and 0 < len(visible) < num_replicas * num_gpus:
        raise ConfigError(
            f"{num_replicas} replicas take {num_replicas * num_gpus} GPUs, and {VISIBLE_GPUS} names {len(visible)}",
            hint=f"name more GPUs in {VISIBLE_GPUS}, or ask for fewer replicas",
        )
    first = replica * num_gpus
    numbers = range(first, first + num_gpus)
    return ",".join(visible[first : first + num_gpus] if visible else map(str, numbers))

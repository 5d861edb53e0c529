"""The check that the vLLM that runs has every name that the plugin relies on.

Owns the check at start and its message. The names are those of `engine_types`: what is used is what is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getmro
from types import FunctionType

from sundog.errors import ConfigError
from sundog.vllm_plugin import engine_types

SUPPORTED = "0.32."
CLASSES: dict[str, type] = {
    "vllm.v1.core.sched.scheduler:Scheduler": engine_types.EngineScheduler,
    "vllm.v1.core.sched.async_scheduler:AsyncScheduler": engine_types.EngineScheduler,
    "vllm.v1.core.sched.request_queue:RequestQueue": engine_types.EngineQueue,
    "vllm.v1.core.sched.output:SchedulerOutput": engine_types.SchedulerOutput,
    "vllm.v1.core.kv_cache_manager:KVCacheManager": engine_types.KVCacheManager,
    "vllm.v1.core.kv_cache_manager:KVCacheBlocks": engine_types.RequestBlocks,
    "vllm.v1.core.block_pool:BlockPool": engine_types.BlockPool,
    "vllm.v1.core.kv_cache_utils:FreeKVCacheBlockQueue": engine_types.FreeBlocks,
    "vllm.v1.core.kv_cache_utils:KVCacheBlock": engine_types.KVCacheBlock,
    "vllm.v1.outputs:ModelRunnerOutput": engine_types.ModelRunnerOutput,
    "vllm.v1.request:Request": engine_types.EngineRequest,
    "vllm.sampling_params:SamplingParams": engine_types.EngineSamplingParams,
    "vllm.v1.engine.core:EngineCore": engine_types.EngineCore,
    "vllm.v1.engine.core_client:AsyncMPClient": engine_types.EngineClient,
    "vllm.v1.engine.async_llm:AsyncLLM": engine_types.AsyncEngine,
}


def check_engine() -> None:
    """Raise ConfigError unless vLLM is of a supported version and has every name."""
    version = str(import_module("vllm").__version__)
    missing = list(missing_names(CLASSES))
    if not version.startswith(SUPPORTED) or missing:
        raise ConfigError(
            f"sundog's plugin does not fit vLLM {version}" + (f": it has no {', '.join(missing)}" if missing else ""),
            hint=f"install vLLM {SUPPORTED}*, or start it without --scheduler-cls",
        )


def missing_names(classes: Mapping[str, type]) -> Iterator[str]:
    """Yield, for each class (module:name), the names that its declaration has and it has not."""
    for place, declaration in classes.items():
        module, _, name = place.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            yield f"{module}.{name}"
            continue
        yield from (f"{module}.{name}.{one}" for one in sorted(declared_names(declaration) - names_of(found)))


def declared_names(declaration: type) -> set[str]:
    methods = {name for name, value in vars(declaration).items() if isinstance(value, FunctionType | property)}
    return {name for name in methods | set(declaration.__annotations__) if name in _SPECIAL or not name.endswith("__")}


def names_of(found: type) -> set[str]:
    """Return its methods, its fields, and what its constructors set."""
    names = set(dir(found))
    for one in getmro(found):
        names |= set(vars(one).get("__annotations__", ()))
        constructor = vars(one).get("__init__")
        if isinstance(constructor, FunctionType):
            names |= set(constructor.__code__.co_names)
    return names


_SPECIAL = ("__len__", "__iter__")

"""The part of vLLM that the plugin touches, as types.

Owns the list of those names: the checks of this project know vLLM by it, and at start `engine_check` compares it with
the vLLM that runs. Never imported for its code; an attribute that no line of the plugin uses does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol


class EngineSamplingParams(Protocol):
    extra_args: dict[str, Any] | None


class EngineRequest(Protocol):
    """vllm.v1.request.Request"""

    request_id: str
    arrival_time: float
    sampling_params: EngineSamplingParams | None
    max_tokens: int
    priority: int
    num_prompt_tokens: int
    num_computed_tokens: int
    num_preemptions: int
    spec_token_ids: list[int]
    block_hashes: Sequence[bytes]

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_output_tokens(self) -> int: ...
    def get_finished_reason(self) -> object: ...


class EngineQueue(Protocol):
    """vllm.v1.core.sched.request_queue.RequestQueue"""

    def add_request(self, request: EngineRequest) -> None: ...
    def pop_request(self) -> EngineRequest: ...
    def peek_request(self) -> EngineRequest: ...
    def prepend_request(self, request: EngineRequest) -> None: ...
    def prepend_requests(self, requests: Iterable[EngineRequest]) -> None: ...
    def remove_request(self, request: EngineRequest) -> None: ...
    def remove_requests(self, requests: Iterable[EngineRequest]) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[EngineRequest]: ...


class KVCacheBlock(Protocol):
    """vllm.v1.core.kv_cache_utils.KVCacheBlock"""

    block_id: int
    ref_cnt: int
    is_null: bool

    @property
    def block_hash(self) -> bytes | None: ...


class FreeBlocks(Protocol):
    """vllm.v1.core.kv_cache_utils.FreeKVCacheBlockQueue"""

    @property
    def num_free_blocks(self) -> int: ...
    def popleft(self) -> Any: ...
    def popleft_n(self, n: int) -> list[Any]: ...
    def remove(self, block: Any) -> None: ...
    def append(self, block: Any) -> None: ...
    def append_n(self, blocks: list[Any]) -> None: ...
    def prepend_n(self, blocks: list[Any]) -> None: ...
    def get_all_free_blocks(self) -> list[Any]: ...


class BlockPool(Protocol):
    """vllm.v1.core.block_pool.BlockPool"""

    num_gpu_blocks: int
    free_block_queue: Any

    def get_num_free_blocks(self) -> int: ...


class RequestBlocks(Protocol):
    """vllm.v1.core.kv_cache_manager.KVCacheBlocks"""

    blocks: tuple[Sequence[KVCacheBlock], ...]


class KVCacheManager(Protocol):
    """vllm.v1.core.kv_cache_manager.KVCacheManager"""

    block_pool: BlockPool

    def get_blocks(self, request_id: str) -> RequestBlocks: ...


class SchedulerOutput(Protocol):
    """vllm.v1.core.sched.output.SchedulerOutput"""

    num_scheduled_tokens: dict[str, int]
    scheduled_spec_decode_tokens: dict[str, list[int]]


class ModelRunnerOutput(Protocol):
    """vllm.v1.outputs.ModelRunnerOutput"""

    req_id_to_index: dict[str, int]
    sampled_token_ids: Sequence[Sequence[int]]


class EngineScheduler:
    """vllm.v1.core.sched.scheduler.Scheduler: what the mixin reads, overrides and calls."""

    vllm_config: Any
    scheduler_config: Any
    kv_cache_manager: KVCacheManager
    waiting: Any
    running: list[Any]
    requests: Mapping[str, EngineRequest]
    block_size: int
    max_num_scheduled_tokens: int
    num_spec_tokens: int

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        raise NotImplementedError

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> dict[int, Any]:
        raise NotImplementedError

    def add_request(self, request: Any) -> None: ...
    def _handle_blocked_waiting_request(self, request: Any) -> bool:
        raise NotImplementedError

    def _free_blocks(self, request: Any) -> None: ...
    def _preempt_request(self, request: Any, timestamp: float, drop_stale_output: bool = False) -> None: ...
    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        raise NotImplementedError


class EngineCore(Protocol):
    """vllm.v1.engine.core.EngineCore: where calls from outside arrive, between two steps."""

    scheduler: Any


class EngineClient(Protocol):
    """vllm.v1.engine.core_client.AsyncMPClient: the API server's way to the engine."""

    async def call_utility_async(self, method: str, *args: Any) -> Any: ...


class AsyncEngine(Protocol):
    """vllm.v1.engine.async_llm.AsyncLLM"""

    engine_core: EngineClient

    async def abort(self, request_id: list[str], internal: bool = False) -> None: ...


class CheckedSamplingParams(Protocol):
    """vllm.sampling_params.SamplingParams: where a request's extra arguments are refused."""

    def _verify_extra_args(self) -> None: ...

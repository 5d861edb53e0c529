"""The KV connector that vLLM loads: prefixes computed by one replica are loaded by the others on its host.

    --kv-transfer-config '{"kv_connector": "SundogKVConnector", "kv_connector_module_path":
      "sundog.vllm_plugin.kv.connector", "kv_role": "kv_both",
      "kv_connector_extra_config": {"folder": "/dev/shm/sundog-kv", "max_bytes": 8000000000}}'

Owns the translation between vLLM's interface and this room's: plan (scheduler) and worker. Decides nothing itself.
Blocks are loaded between engine steps, never in one: a request that cannot load is computed, and none reads a block
that was not checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
)
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.version import __version__ as vllm_version

from sundog.errors import ConfigError
from sundog.vllm_plugin.kv.budget import Budget
from sundog.vllm_plugin.kv.namespace import check_hashing, check_shareable, describe_kv_layout, namespace_name
from sundog.vllm_plugin.kv.options import open_folder, read_kv_options, read_prefill_cost
from sundog.vllm_plugin.kv.pages import TensorPages
from sundog.vllm_plugin.kv.plan import KVPlan, KVTransfers, MeasuredKVLoad
from sundog.vllm_plugin.kv.probe import measure_load
from sundog.vllm_plugin.kv.store import BlockStore
from sundog.vllm_plugin.kv.worker import Finished, KVWorker

logger = init_logger(f"vllm.{__name__}")

NOTHING_FINISHED = Finished(frozenset(), frozenset(), ())


@dataclass
class StepMetadata(KVConnectorMetadata):  # type: ignore[misc]  # vLLM has no types where it is not installed
    """The message that the scheduler gives the workers for one step."""

    step: KVTransfers = field(default_factory=KVTransfers)


@dataclass
class LoadTimes(KVConnectorWorkerMetadata):  # type: ignore[misc]  # vLLM has no types where it is not installed
    """The message that the workers give the scheduler."""

    measured: list[MeasuredKVLoad]

    def aggregate(self, other: KVConnectorWorkerMetadata) -> LoadTimes:
        return LoadTimes(self.measured + other.measured)


class SundogKVConnector(KVConnectorBase_V1):  # type: ignore[misc]  # vLLM has no types where it is not installed
    """Made twice by vLLM: once in the scheduler's process and once in each worker's."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._options = read_kv_options(self._kv_transfer_config.kv_connector_extra_config)
        self._root = open_folder(self._options)
        check_shareable(vllm_config)
        self._spec = _only_spec(kv_cache_config)
        algorithm = vllm_config.cache_config.prefix_caching_hash_algo
        hashing = check_hashing(algorithm, os.environ.get("PYTHONHASHSEED"))
        engine = f"vllm {vllm_version} {current_platform.device_type} {current_platform.get_device_name()}"
        self._namespace = namespace_name(
            describe_kv_layout(vllm_config, kv_cache_config, hashing=hashing, engine=engine)
        )
        self._budget = Budget(self._root, self._options.max_bytes)
        self._worker: KVWorker | None = None
        self._finished = NOTHING_FINISHED
        if role == KVConnectorRole.SCHEDULER:
            self._plan = self._make_plan()

    def _store(self, rank: int) -> BlockStore:
        return BlockStore(self._root, self._namespace, rank, self._budget)

    # The scheduler's side

    def _make_plan(self) -> KVPlan:
        # vLLM's default is to fail the request. A cache that lost a block is no reason for that.
        self._kv_transfer_config.kv_load_failure_policy = "recompute"
        parallel = self._vllm_config.parallel_config
        stores = [self._store(rank) for rank in range(parallel.tensor_parallel_size)]
        prefill = read_prefill_cost(self._options)
        load_s_per_byte = measure_load(self._root)
        logger.info(
            "KV blocks are shared in %s (namespace %s, at most %d bytes); loading takes %.2f s/GB; %s",
            self._root,
            self._namespace,
            self._options.max_bytes,
            load_s_per_byte * 1e9,
            "every prefix found is loaded: no prefill cost is given" if prefill is None else prefill,
        )
        num_layers = len(self._kv_cache_config.kv_cache_groups[0].layer_names)
        return KVPlan(
            lambda key: all(store.has(key) for store in stores),
            self._spec.block_size,
            num_layers * self._spec.page_size_bytes // self._spec.block_size,
            prefill,
            load_s_per_byte,
            may_load=self._kv_transfer_config.is_kv_consumer,
            may_save=self._kv_transfer_config.is_kv_producer,
        )

    @property
    def requires_kv_delivery(self) -> bool:
        return False

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        num_tokens = self._plan.num_loadable_tokens(request, num_computed_tokens)
        return num_tokens, num_tokens > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        self._plan.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> StepMetadata:
        """Return what the workers are to load and save in the step that was scheduled."""
        block_state = scheduler_output.kv_connector_block_state
        return StepMetadata(
            self._plan.step(
                scheduler_output.num_scheduled_tokens, lambda request_id: block_state.get_block_ids(request_id)[0]
            )
        )

    def update_connector_output(self, connector_output: Any) -> None:
        times = connector_output.kv_connector_worker_meta
        self._plan.loaded(len(connector_output.finished_recving or ()), times.measured if times is not None else ())

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, None]:
        self._plan.finished(request.request_id)
        return False, None

    def reset_cache(self) -> bool:
        for rank in range(self._vllm_config.parallel_config.tensor_parallel_size):
            self._store(rank).clear()
        return True

    # The workers' side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        pages = TensorPages(kv_caches, self._kv_cache_config.num_blocks)
        reader, writer = (ThreadPoolExecutor(1, f"sundog-kv-{name}") for name in ("read", "write"))
        rank = self._vllm_config.parallel_config.rank % self._vllm_config.parallel_config.tensor_parallel_size
        self._worker = KVWorker(self._store(rank), pages, reader, writer)

    def _step(self) -> tuple[KVWorker, KVTransfers]:
        assert self._worker is not None, "vLLM has not registered its KV caches"
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        return self._worker, metadata.step

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        worker, step = self._step()
        worker.start_loads(step)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Do nothing: nothing is loaded during a forward pass."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Blocks are saved whole, after the forward pass."""

    def wait_for_save(self) -> None:
        """Hand the step's blocks over to be written, and warn of those that were dropped."""
        worker, step = self._step()
        worker.save(step)
        num_dropped = worker.take_num_dropped_blocks()
        if num_dropped:
            logger.warning("%d KV blocks were not shared: the folder is slower than the engine", num_dropped)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[None, set[str] | None]:
        worker, step = self._step()
        self._finished = worker.finished_loads(is_idle=step.is_idle)
        return None, set(self._finished.request_ids) or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return set(self._finished.failed_block_ids)

    def build_connector_worker_meta(self) -> LoadTimes | None:
        return LoadTimes(list(self._finished.measured)) if self._finished.measured else None

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()


def _only_spec(kv_cache_config: Any) -> Any:
    groups = kv_cache_config.kv_cache_groups
    specs: Iterable[Any] = [group.kv_cache_spec for group in groups]
    problem = None
    if len(groups) != 1 or not all(isinstance(spec, FullAttentionSpec) for spec in specs):
        problem = "not all layers keep all tokens (sliding windows, state space layers or several groups)"
    elif groups[0].kv_cache_spec.kv_quant_mode.name != "NONE":
        problem = "the KV cache is quantized"
    elif kv_cache_config.hash_block_size != groups[0].kv_cache_spec.block_size:
        problem = (
            f"blocks of {groups[0].kv_cache_spec.block_size} tokens are hashed by {kv_cache_config.hash_block_size}"
        )
    if problem is not None:
        raise ConfigError(
            f"this model's KV cache cannot be shared: {problem}",
            where="KV connector",
            hint="leave --kv-transfer-config out",
        )
    return groups[0].kv_cache_spec

"""The decisions of the scheduler's side of the KV connector: which blocks a request loads, and which it leaves for
others.

Owns the books of the requests that vLLM has scheduled. Reads vLLM's requests, never changes them; never touches a
block's content. Blocks are those of one KV cache group, full ones only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from sundog.vllm_plugin.kv.decision import PrefillCost, is_loading_cheaper

NUM_MEASURED_LOADS = 16


class KVRequest(Protocol):
    """The part of a vLLM `Request` that is read here, by vLLM's names."""

    request_id: str
    num_tokens: int
    num_computed_tokens: int
    num_preemptions: int
    lora_request: Any
    mm_features: Sequence[Any]

    @property
    def block_hashes(self) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True)
class KVLoad:
    """The load of blocks of one request."""

    request_id: str
    #: Blocks of the engine.
    block_ids: tuple[int, ...]
    #: Their blocks in the store, in the order of the prompt.
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KVSave:
    """Blocks that are full after this step, of one request, in the order of its tokens."""

    block_ids: tuple[int, ...]
    keys: tuple[bytes, ...]


@dataclass(slots=True)
class KVTransfers:
    """The transfers of the workers in one engine step."""

    loads: list[KVLoad] = field(default_factory=list)
    saves: list[KVSave] = field(default_factory=list)
    #: Prefixes that were found in the engine itself.
    used: list[tuple[bytes, ...]] = field(default_factory=list)
    #: The engine computes nothing in this step, so that waiting for a load delays nobody.
    is_idle: bool = False


@dataclass(frozen=True, slots=True)
class MeasuredKVLoad:
    """A load as it went."""

    num_bytes: int
    elapsed_s: float


@dataclass(slots=True)
class _Books:
    request: KVRequest
    num_saved_blocks: int | None = None


class KVPlan:
    """This class decides which blocks each request loads and saves. `has`: whether every rank's part of a block is in
    the store. `first_load_s_per_byte`: measured on the folder at the start; the loads that follow replace it."""

    def __init__(
        self,
        has: Callable[[bytes], bool],
        block_tokens: int,
        bytes_per_token: int,
        prefill: PrefillCost | None,
        first_load_s_per_byte: float,
        *,
        may_load: bool = True,
        may_save: bool = True,
    ) -> None:
        self._has = has
        self._block_tokens = block_tokens
        self._bytes_per_token = bytes_per_token
        self._prefill = prefill
        self._first_load_s_per_byte = first_load_s_per_byte
        self._measured: deque[float] = deque(maxlen=NUM_MEASURED_LOADS)
        self._may_load = may_load
        self._may_save = may_save
        self._scheduled: dict[str, _Books] = {}
        self._first_missing: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        self._loads: list[KVLoad] = []
        self._num_loading = 0

    def num_loadable_tokens(self, request: KVRequest, num_computed_tokens: int) -> int:
        """Return the number of tokens after the first `num_computed_tokens` (full blocks) to be loaded; 0 when
        computing them is cheaper.

        Asked as often as vLLM likes. The last token is never loaded: the next one is sampled from it.
        """
        request_id = request.request_id
        if not self._may_load or not is_shareable(request) or self._tried.get(request_id) == request.num_preemptions:
            return 0
        first = num_computed_tokens // self._block_tokens
        end = first
        last = min((request.num_tokens - 1) // self._block_tokens, len(request.block_hashes))
        while end < last and self._has(request.block_hashes[end]):
            end += 1
        self._first_missing[request_id] = first
        num_tokens = (end - first) * self._block_tokens
        if is_loading_cheaper(
            num_tokens, num_computed_tokens, self._bytes_per_token, self.load_s_per_byte, self._prefill
        ):
            return num_tokens
        if num_tokens and self._measured:
            # Or one slow load would end all loading: no load, no measurement.
            self._measured.popleft()
        return 0

    def allocated(self, request: KVRequest, block_ids: Sequence[int], num_loaded_tokens: int) -> None:
        """vLLM has given the request its blocks, `num_loaded_tokens` of them to be loaded."""
        self._scheduled.setdefault(request.request_id, _Books(request))
        if num_loaded_tokens == 0:
            return
        first = self._first_missing[request.request_id]
        end = first + num_loaded_tokens // self._block_tokens
        # A load that failed is not tried again: the blocks are computed. After a preemption all is new.
        self._tried[request.request_id] = request.num_preemptions
        self._loads.append(
            KVLoad(request.request_id, tuple(block_ids[first:end]), tuple(request.block_hashes[first:end]))
        )
        self._num_loading += 1

    def step(self, num_scheduled_tokens: Mapping[str, int], block_ids: Callable[[str], Sequence[int]]) -> KVTransfers:
        """Return what is to be done in the step that computes `num_scheduled_tokens`; `block_ids`: the blocks of a
        request.

        To be called once a step, before vLLM counts the step's tokens as computed.
        """
        step = KVTransfers(self._loads, is_idle=not num_scheduled_tokens and self._num_loading > 0)
        self._loads = []
        if self._may_save:
            for request_id, num_tokens in num_scheduled_tokens.items():
                self._add_saves(step, request_id, num_tokens, block_ids)
        return step

    def _add_saves(
        self, step: KVTransfers, request_id: str, num_tokens: int, block_ids: Callable[[str], Sequence[int]]
    ) -> None:
        books = self._scheduled[request_id]
        request = books.request
        if not is_shareable(request):
            return
        if books.num_saved_blocks is None:
            books.num_saved_blocks = request.num_computed_tokens // self._block_tokens
            if books.num_saved_blocks:
                step.used.append(tuple(request.block_hashes[: books.num_saved_blocks]))
        # Drafted tokens may be refused: they have no hash and fill no block yet.
        num_full = (request.num_computed_tokens + num_tokens) // self._block_tokens
        first, end = books.num_saved_blocks, min(num_full, len(request.block_hashes))
        if first < end:
            step.saves.append(KVSave(tuple(block_ids(request_id)[first:end]), tuple(request.block_hashes[first:end])))
            books.num_saved_blocks = end

    def loaded(self, num_requests: int, measured: Sequence[MeasuredKVLoad]) -> None:
        """The workers have finished the loads of `num_requests`, well or not."""
        self._num_loading -= num_requests
        self._measured.extend(load.elapsed_s / load.num_bytes for load in measured)

    def finished(self, request_id: str) -> None:
        """The request has ended, or was taken back."""
        for books in (self._scheduled, self._first_missing, self._tried):
            books.pop(request_id, None)

    @property
    def load_s_per_byte(self) -> float:
        return median(self._measured) if self._measured else self._first_load_s_per_byte


def is_shareable(request: KVRequest) -> bool:
    """Return whether blocks may be shared: only those of text without an adapter, as block hashes know an adapter and a
    medium by names that the user chose."""
    return request.lora_request is None and not request.mm_features

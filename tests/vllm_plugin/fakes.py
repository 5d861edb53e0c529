"""vLLM's requests, queue and blocks, as much of them as the plugin touches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sundog.vllm_plugin.engine_books import EngineBooks
from sundog.vllm_plugin.engine_types import EngineRequest, EngineSamplingParams


@dataclass
class FakeParameters:
    extra_args: dict[str, Any] | None = None


@dataclass(eq=False)
class FakeRequest:
    request_id: str
    arrival_time: float = 0.0
    num_prompt_tokens: int = 64
    max_tokens: int = 32
    priority: int = 0
    num_computed_tokens: int = 0
    num_preemptions: int = 0
    num_output_tokens: int = 0
    sampling_params: EngineSamplingParams | None = None
    spec_token_ids: list[int] = field(default_factory=list)
    block_hashes: Sequence[bytes] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens

    def get_finished_reason(self) -> str:
        return "stop"


def request(name: str, arrival_time: float = 0.0, *, num_prompt_tokens: int = 64, **envelope: Any) -> FakeRequest:
    """Return a request; without keywords it has no envelope."""
    parameters = FakeParameters({"sundog": envelope} if envelope else None)
    hashes = [f"{name}{number}".encode() for number in range(num_prompt_tokens // 16)]
    return FakeRequest(
        name, arrival_time, num_prompt_tokens=num_prompt_tokens, sampling_params=parameters, block_hashes=hashes
    )


class FakeQueue(deque[EngineRequest]):
    """First come, first served, as vLLM's own."""

    add_request = deque.append
    pop_request = deque.popleft
    prepend_request = deque.appendleft
    remove_request = deque.remove

    def peek_request(self) -> EngineRequest:
        return self[0]

    def prepend_requests(self, requests: Iterable[EngineRequest]) -> None:
        self.extendleft(requests)

    def remove_requests(self, requests: Iterable[EngineRequest]) -> None:
        gone = set(map(id, requests))
        kept = [one for one in self if id(one) not in gone]
        self.clear()
        self.extend(kept)


@dataclass(eq=False)
class FakeBlock:
    block_id: int
    ref_cnt: int = 0
    is_null: bool = False
    block_hash: bytes | None = None


class FakeFreeBlocks:
    """Blocks in order of eviction."""

    def __init__(self, blocks: Iterable[FakeBlock]) -> None:
        self._blocks = list(blocks)

    @property
    def num_free_blocks(self) -> int:
        return len(self._blocks)

    def popleft(self) -> FakeBlock:
        return self._blocks.pop(0)

    def popleft_n(self, n: int) -> list[FakeBlock]:
        given, self._blocks = self._blocks[:n], self._blocks[n:]
        return given

    def remove(self, block: FakeBlock) -> None:
        self._blocks.remove(block)

    def append(self, block: FakeBlock) -> None:
        self._blocks.append(block)

    def append_n(self, blocks: list[FakeBlock]) -> None:
        self._blocks += blocks

    def prepend_n(self, blocks: list[FakeBlock]) -> None:
        self._blocks = [*blocks, *self._blocks]

    def get_all_free_blocks(self) -> list[FakeBlock]:
        return list(self._blocks)


def books(num_blocks: int = 40) -> EngineBooks:
    return EngineBooks(
        model="tiny", num_blocks=num_blocks, block_size=16, max_num_seqs=8, max_model_len=512, knows_prefixes=True
    )

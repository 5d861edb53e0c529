"""The engine's KV tensors as bytes, block by block.

Owns the copies between host memory and the tensors. The bytes of a block are those of its layers in their order, in
the logical order of each layer's dimensions, whatever its strides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sundog.errors import ConfigError


class TensorPages:
    """`kv_caches`: for each layer a tensor whose first dimension counts blocks, or the equal parts of blocks, of the
    `num_blocks` that the scheduler knows."""

    def __init__(self, kv_caches: Mapping[str, torch.Tensor], num_blocks: int) -> None:
        self._layers = list(kv_caches.values())
        self._num_parts: list[int] = []
        self._layer_bytes: list[int] = []
        for name, layer in kv_caches.items():
            num_parts, rest = divmod(layer.shape[0], num_blocks)
            if rest or not num_parts:
                raise ConfigError(
                    f"the KV cache of layer {name} has the shape {tuple(layer.shape)}, which does not count its "
                    f"{num_blocks} blocks first",
                    hint="this attention backend cannot share its KV cache; choose another one",
                )
            self._num_parts.append(num_parts)
            self._layer_bytes.append(layer.nbytes // num_blocks)
        self.block_bytes = sum(self._layer_bytes)

    def gather(self, block_ids: Sequence[int]) -> memoryview:
        blocks = torch.empty((len(block_ids), self.block_bytes), dtype=torch.uint8)
        first = 0
        for layer, num_parts, num_bytes in zip(self._layers, self._num_parts, self._layer_bytes, strict=True):
            chosen = layer.index_select(0, _part_ids(block_ids, num_parts, layer.device)).contiguous()
            blocks[:, first : first + num_bytes] = chosen.cpu().view(torch.uint8).reshape(len(block_ids), num_bytes)
            first += num_bytes
        return memoryview(blocks.numpy()).cast("B")

    def scatter(self, block_ids: Sequence[int], blocks: memoryview) -> None:
        # The copies are ordered before the next forward pass: both are on the stream of the caller.
        source = torch.frombuffer(blocks, dtype=torch.uint8).view(len(block_ids), self.block_bytes)
        first = 0
        for layer, num_parts, num_bytes in zip(self._layers, self._num_parts, self._layer_bytes, strict=True):
            part_ids = _part_ids(block_ids, num_parts, layer.device)
            content = source[:, first : first + num_bytes].contiguous().view(layer.dtype)
            layer.index_copy_(0, part_ids, content.view(len(part_ids), *layer.shape[1:]).to(layer.device))
            first += num_bytes

    def staging(self, num_blocks: int) -> memoryview:
        return memoryview(torch.empty(num_blocks * self.block_bytes, dtype=torch.uint8).numpy())


def _part_ids(block_ids: Sequence[int], num_parts: int, device: torch.device) -> torch.Tensor:
    ids = torch.tensor(block_ids, dtype=torch.long)
    parts = ids[:, None] * num_parts + torch.arange(num_parts)
    return parts.reshape(-1).to(device)

"""The engine's KV tensors as bytes, block by block.

Owns the copies between host memory and the tensors. The bytes of a block are those of its layers in their order, in
the logical order of each layer's dimensions, whatever its strides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from sundog.errors import ConfigError


class TensorPages:
    """This class gathers and scatters blocks of the engine's KV caches. `kv_caches`: for each layer a tensor whose
    first dimension counts blocks, or the equal parts of blocks, of the `num_blocks` that the scheduler knows."""

    def __init__(self, kv_caches: Mapping[str, torch.Tensor], num_blocks: int) -> None:
        for name, layer in kv_caches.items():
            if layer.shape[0] % num_blocks or layer.shape[0] == 0:
                raise ConfigError(
                    f"the KV cache of layer {name} has the shape {tuple(layer.shape)}, which does not count its "
                    f"{num_blocks} blocks first",
                    hint="this attention backend cannot share its KV cache; choose another one",
                )
        self._layers = list(kv_caches.values())
        self._num_blocks = num_blocks
        self.block_bytes = sum(layer.nbytes // num_blocks for layer in self._layers)

    def gather(self, block_ids: Sequence[int]) -> memoryview:
        blocks = self._empty(len(block_ids))
        for layer, part_ids, part in self._parts(block_ids, blocks):
            if layer.device.type == "cpu":
                torch.index_select(layer, 0, part_ids, out=part)
            else:
                part.copy_(layer.index_select(0, part_ids))
        return memoryview(blocks.numpy()).cast("B")

    def scatter(self, block_ids: Sequence[int], blocks: memoryview) -> None:
        # On a GPU the copies are on the caller's stream, and so before the next forward pass.
        source = torch.frombuffer(blocks, dtype=torch.uint8).view(len(block_ids), self.block_bytes)
        for layer, part_ids, part in self._parts(block_ids, source):
            layer.index_copy_(0, part_ids, part.to(layer.device))

    def staging(self, num_blocks: int) -> memoryview:
        return memoryview(self._empty(num_blocks).numpy()).cast("B")

    def _empty(self, num_blocks: int) -> torch.Tensor:
        return torch.empty((num_blocks, self.block_bytes), dtype=torch.uint8)

    def _parts(
        self, block_ids: Sequence[int], blocks: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield for each layer and each part of its blocks the layer, where in it the parts are, and where in `blocks`,
        as a view of the layer's type and shape."""
        first = 0
        for layer in self._layers:
            num_parts = layer.shape[0] // self._num_blocks
            part_bytes = layer.nbytes // layer.shape[0]
            ids = torch.tensor(block_ids, dtype=torch.long, device=layer.device) * num_parts
            for number in range(num_parts):
                part = blocks[:, first : first + part_bytes].view(layer.dtype).unflatten(1, layer.shape[1:])
                yield layer, ids + number, part
                first += part_bytes

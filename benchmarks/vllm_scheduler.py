"""vLLM's scheduler without a model: requests in, the outputs of each step made up, everything else as it is.

Owns the construction and the loop. Runs only where vLLM is installed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1_000_000,
    "vocab_size": 320,
    "torch_dtype": "float32",
}
PLUGIN = "sundog.vllm_plugin.scheduler"


def vllm(module: str) -> Any:
    """A module of vLLM, whose types this project does not know."""
    return import_module(f"vllm.{module}")


@dataclass(frozen=True)
class Ask:
    """One request: `num_output_tokens` is where it stops by itself, below `max_tokens`."""

    name: str
    prompt: Sequence[int]
    num_output_tokens: int
    max_tokens: int
    arrival_time: float = 0.0
    envelope: Mapping[str, Any] | None = None


class Driven:
    """A scheduler of vLLM (`policy` None) or of sundog with that policy set, and the steps it makes."""

    def __init__(
        self,
        policy: str | None,
        *,
        num_blocks: int = 40,
        block_size: int = 16,
        max_num_seqs: int = 8,
        max_num_batched_tokens: int = 256,
        max_model_len: int = 512,
        is_async: bool = False,
    ) -> None:
        config = vllm("config")
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "config.json").write_text(json.dumps(MODEL))
            model = config.ModelConfig(
                model=name, dtype="float32", max_model_len=max_model_len, skip_tokenizer_init=True
            )
            self.config = config.VllmConfig(
                model_config=model,
                cache_config=config.CacheConfig(block_size=block_size, enable_prefix_caching=True),
                scheduler_config=config.SchedulerConfig(
                    max_num_seqs=max_num_seqs,
                    max_num_batched_tokens=max_num_batched_tokens,
                    max_model_len=max_model_len,
                    enable_chunked_prefill=True,
                    is_encoder_decoder=False,
                    async_scheduling=is_async,
                ),
                additional_config={"sundog": {"policy": policy}} if policy else {},
            )
        self.config.cache_config.num_gpu_blocks = num_blocks
        interface = vllm("v1.kv_cache_interface")
        spec = interface.FullAttentionSpec(
            block_size=block_size, num_kv_heads=1, head_size=32, dtype=import_module("torch").float32
        )
        cache = interface.KVCacheConfig(
            num_blocks=num_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[interface.KVCacheGroupSpec(["layer"], spec)],
        )
        name = "AsyncScheduler" if is_async else "Scheduler"
        stock = vllm(f"v1.core.sched.{'async_scheduler' if is_async else 'scheduler'}")
        self.scheduler: Any = getattr(import_module(PLUGIN) if policy else stock, f"Sundog{name}" if policy else name)(
            vllm_config=self.config,
            kv_cache_config=cache,
            structured_output_manager=vllm("v1.structured_output").StructuredOutputManager(self.config),
            block_size=block_size,
        )
        utils = vllm("v1.core.kv_cache_utils")
        hashing = vllm("utils.hashing").sha256
        utils.init_none_hash(hashing)
        self._hasher = utils.get_request_block_hasher(block_size, hashing)
        self._num_output_tokens: dict[str, int] = {}

    def ask(self, ask: Ask) -> None:
        parameters = vllm("sampling_params").SamplingParams(
            max_tokens=ask.max_tokens,
            ignore_eos=True,
            stop_token_ids=[STOP],
            extra_args=None if ask.envelope is None else {"sundog": dict(ask.envelope)},
        )
        self._num_output_tokens[ask.name] = ask.num_output_tokens
        self.scheduler.add_request(
            vllm("v1.request").Request(
                request_id=ask.name,
                prompt_token_ids=list(ask.prompt),
                sampling_params=parameters,
                pooling_params=None,
                arrival_time=ask.arrival_time,
                block_hasher=self._hasher,
            )
        )

    def schedule(self) -> Any:
        return self.scheduler.schedule()

    def finish(self, output: Any) -> list[str]:
        """Every request that has its whole prompt computed gets a token; the names of those that ended."""
        names = list(output.num_scheduled_tokens)
        produced = vllm("v1.outputs").ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[self._sampled(name) for name in names],
        )
        answers = self.scheduler.update_from_output(output, produced)
        return [one.request_id for each in answers.values() for one in each.outputs if one.finish_reason is not None]

    def step(self) -> tuple[dict[str, int], list[str]]:
        """Tokens scheduled by request, and who ended."""
        output = self.schedule()
        return dict(output.num_scheduled_tokens), self.finish(output)

    def _sampled(self, name: str) -> list[int]:
        request = self.scheduler.requests[name]
        if request.num_computed_tokens < request.num_tokens:
            return []
        is_last = request.num_output_tokens + 1 >= self._num_output_tokens[name]
        return [STOP if is_last else FIRST_TOKEN + request.num_output_tokens % 50]


STOP = 9
FIRST_TOKEN = 100

"""The part of sundog that runs inside a vLLM server. The only room, beside engines.vllm.local, that may import vLLM."""

"""What sundog runs inside a vLLM server. The only room, beside engines.vllm_local, that may import vLLM."""

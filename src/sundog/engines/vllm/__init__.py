"""vLLM: its servers, attached to or started here, and vLLM inside this process."""

"""The KV connector: blocks of prefixes that one vLLM replica computed, loaded by the others on its host."""

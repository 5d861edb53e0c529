"""The OpenAI protocol as servers really speak it: pure functions between bytes and an engine's contract."""

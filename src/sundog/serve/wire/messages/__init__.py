"""Anthropic's form `/v1/messages` over chat: requests, answers and streams."""

"""Servers that speak the OpenAI protocol: their options, connection and engine."""

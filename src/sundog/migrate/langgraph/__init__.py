"""LangGraph's graphs as flows."""

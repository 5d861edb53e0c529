"""The `http` step: one request to a web service."""

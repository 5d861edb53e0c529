"""The status of a server, the live page, and the log of its requests."""

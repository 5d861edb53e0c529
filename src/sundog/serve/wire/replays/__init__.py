"""Streams become whole answers, and whole answers streams, in the words of a chat and of a completion."""

"""Batches: files of requests that are worked on beside what comes live."""

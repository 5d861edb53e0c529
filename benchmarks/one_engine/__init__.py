"""Flows on one engine: the six published workloads, and three over TAT-QA where its file is given."""

"""Halo's online experiment (arXiv 2509.02121): flows that are asked for as time passes, in an open loop."""

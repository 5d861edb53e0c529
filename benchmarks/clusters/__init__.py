"""Figures of runs on a Ray cluster, whose nodes are processes of this machine."""

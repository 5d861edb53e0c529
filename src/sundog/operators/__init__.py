"""Operators: kinds of steps. One file each; found by entry point."""

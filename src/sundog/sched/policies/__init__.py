"""The decisions that sundog brings: pure functions of views."""

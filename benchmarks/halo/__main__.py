"""`python -m halo`, in the folder benchmarks: the same as `sundog bench`, with tracebacks."""

from halo.command import app

app(prog_name="sundog bench")

"""Where the command line writes: results to stdout, all else to stderr.

Owns the two streams and the form of errors. Never decides what is said.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import typer

from sundog.errors import SundogError


def print_result(text: str) -> None:
    """To stdout. Whoever reads it may stop early (`| head`): the rest is dropped, the command goes on.
    Styles are left out where stdout is no terminal."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end: that must not meet the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_note(text: str) -> None:
    """To stderr; a stderr that nobody reads any more stops nothing."""
    try:
        typer.echo(text, err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_error(error: Exception, redact: Callable[[str], str], *, is_debug: bool) -> int:
    """Say what went wrong; the exit code."""
    if is_debug:
        print_note(redact("".join(traceback.format_exception(error)).rstrip()))
    if isinstance(error, SundogError):
        print_note(redact(f"error: {error}"))
        return error.exit_code
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    print_note(redact(f"error: this is a bug in sundog: {what}"))
    if not is_debug:
        print_note("  repeat the command with --debug and report what it prints, with the flow if you can")
    return 1

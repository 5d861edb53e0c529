"""This module writes for the command line: results to stdout, all else to stderr.

Owns the two streams and the form of errors. Never decides what is said.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import typer

from sundog.errors import ConfigError, RunError, SundogError, error_text


def open_closed_streams() -> None:
    """Open the null device where the shell has closed stdin, stdout or stderr, as `2>&-` does.

    Otherwise the next file that is opened takes the number of the stream, and what is meant for the reader of the
    stream is written into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is given out, and the ones below are open by now. What cannot be written tells of
            # itself where somebody asked for it, as rows on stdout.
            os.open(os.devnull, os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def show_what_can_be_shown() -> None:
    """Let stdout and stderr write `?` for letters that the terminal's character set lacks, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def require_stdout() -> None:
    """Raise ConfigError where the shell has closed stdout, before anything is done whose rows would be lost."""
    try:
        os.write(sys.stdout.fileno(), b"")
    except OSError as error:
        if error.errno != errno.EBADF:
            return
        raise ConfigError(
            "stdout is closed, and the rows would go there", hint="name a file: --output rows.jsonl"
        ) from error


def print_result(text: str) -> None:
    """Write to stdout. Whoever reads it may stop early (`| head`): the rest is dropped, the command goes on. RunError
    where stdout cannot be written otherwise. A stdout that the shell has closed is none that anybody reads. Styles are
    left out where stdout is no terminal."""
    try:
        typer.echo(text)
    except OSError as error:
        _stdout_failed(error, is_closed=error.errno == errno.EBADF)


@contextmanager
def result_stream() -> Iterator[BinaryIO]:
    """Stdout for many lines; once nobody reads any more, what is left of the block is not done. RunError as for
    `print_result`."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except OSError as error:
        _stdout_failed(error)


def _stdout_failed(error: OSError, *, is_closed: bool = False) -> None:
    """Raise RunError, unless the reader has stopped reading, or there is none and none is needed."""
    # The interpreter flushes stdout once more at its end: that must not meet what failed here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError) and not is_closed:
        raise RunError(
            f"cannot write to stdout: {error.strerror or error}",
            hint="make room where it is written to, and repeat the command: nothing finished is lost",
        ) from error


def print_note(text: str) -> None:
    """Write to stderr; a stderr that nobody reads any more, or that is full, stops nothing."""
    try:
        typer.echo(text, err=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_error(error: Exception, redact: Callable[[str], str], *, is_debug: bool) -> int:
    """Say what went wrong; the exit code."""
    if is_debug:
        print_note(redact("".join(traceback.format_exception(error)).rstrip()))
    if isinstance(error, SundogError):
        print_note(redact(f"error: {error}"))
        return error.exit_code
    what = error_text(error).splitlines()[0]
    print_note(redact(f"error: this is a bug in sundog: {what}"))
    if not is_debug:
        print_note("  repeat the command with --debug and report what it prints, with the flow if you can")
    return 1

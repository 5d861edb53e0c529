"""A pipeline of bytes: its tokens are the bytes of the prompt, one per step. Loads in any process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sundog.engines.base import FinishReason
from sundog.engines.embedded.prefix_mirror import PrefixMirror
from sundog.engines.embedded.step_loop import StepLoop
from sundog.errors import BadResponse, ConfigError, EngineOverloaded


class EchoHandle:
    def __init__(self, tokens: Sequence[int]) -> None:
        self.left = list(tokens)
        self.ready: list[int] = []
        self.is_cancelled = self.is_dropped = False

    def read(self) -> tuple[list[int], FinishReason | None]:
        if self.is_dropped:
            raise EngineOverloaded("no room", retryable=True)
        tokens, self.ready = self.ready, []
        return tokens, None if self.left else "stop"

    def cancel(self) -> None:
        self.is_cancelled, self.left = True, []


class EchoPipeline:
    """The settings of a job say what it does: None echoes."""

    def __init__(self) -> None:
        self.prefix_cache = PrefixMirror(block_tokens=2, num_blocks=4_000_000)
        self.handles: list[EchoHandle] = []
        self.num_steps = 0
        self.on_step: Callable[[], None] = lambda: None

    def add(self, prompt: Sequence[int], settings: Any) -> EchoHandle:
        match settings:
            case "refuse":
                raise BadResponse("not this one")
            case "kill":
                self.on_step = lambda: os.kill(os.getpid(), signal.SIGKILL)
            case "break":
                self.on_step = _break
            case "signal":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
            case "print":
                os.write(1, b"native noise\n")
                sys.stdout.write("noise\n")
            case "facts":
                script = sys.modules["__main__"].__dict__.get("__file__")
                prompt = repr((os.getpid(), str(Path.cwd()), script)).encode()
        self.handles.append(EchoHandle(prompt))
        return self.handles[-1]

    def step(self) -> None:
        self.num_steps += 1
        self.on_step()
        for handle in self.handles:
            handle.ready += handle.left[:1]
            del handle.left[:1]

    def has_work(self) -> bool:
        return any(handle.left for handle in self.handles)

    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]:
        return [bytes(one).decode("utf-8", "replace") for one in sequences]


def _break() -> None:
    raise RuntimeError("bad alloc")


def load_echo(how: str) -> tuple[StepLoop, int]:
    """`how` it goes wrong, if it does; the fact is the process."""
    match how:
        case "no weights":
            raise ConfigError("no weights", hint="pull them")
        case "bug":
            raise ValueError("a bug in loading")
        case "kill in the first step":
            pipeline = EchoPipeline()
            pipeline.on_step = lambda: os.kill(os.getpid(), signal.SIGKILL)
            return StepLoop(pipeline), os.getpid()
    return StepLoop(EchoPipeline()), os.getpid()

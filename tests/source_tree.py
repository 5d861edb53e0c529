"""The source as the tests of its form read it: files that git tracks, and modules as syntax trees."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "sundog"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks and that are there, by git's patterns."""
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def modules(*patterns: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted({found for pattern in patterns for found in SOURCE.glob(pattern)}):
        yield path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def listing(found: list[str]) -> str:
    return "\n" + "\n".join(found)


def is_public(name: str) -> bool:
    return not name.startswith("_")

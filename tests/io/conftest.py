"""Opens inputs that lie in the test's own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sundog.ir.logical import InputSource
from sundog.runtime.rows.inputs import RowSource, open_rows
from sundog.runtime.rows.row_choice import RowChoice

Open = Callable[..., RowSource]
Put = Callable[[str, str | bytes], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file into the flow's folder."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def open_at(tmp_path: Path) -> Open:
    """Opens a path or InputSources, relative to the flow's folder."""

    def open_(*inputs: str | InputSource, snapshot_dir: Path | None = None, **options: Any) -> RowSource:
        sources = [InputSource("rows", path=one) if isinstance(one, str) else one for one in inputs]
        return open_rows(sources, base_dir=tmp_path, snapshot_dir=snapshot_dir, choice=RowChoice(**options))

    return open_


@pytest.fixture
def read(open_at: Open) -> Callable[..., list[Any]]:
    """The rows without their numbers."""
    return lambda *inputs, **options: [
        row for batch in open_at(*inputs, **options).batches(batch_size=2) for _, row in batch
    ]

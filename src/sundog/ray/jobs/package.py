"""The package of a job: the flow's folder, as the cluster gets it.

Owns which files go along. The same files make the same package, byte for byte, so that they are sent once.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sundog.errors import ConfigError

MAX_PACKAGE_BYTES = 200 * 2**20
"""Ray keeps a package in the memory of its head, and takes 500 MiB at most."""
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time that all files of a package have."""


def packed_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that go along, in their order: all but those whose name, or that of a folder above
    them, begins with a dot, bytecode, and virtual environments."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not _stays(here / name))
        for name in sorted(names):
            if not name.startswith(".") and (here / name).is_file():
                yield here / name


def write_package(folder: Path, target: Path) -> None:
    """Pack the files of a folder into a zip file. ConfigError where they are too large."""
    num_bytes = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for path in packed_files(folder):
            num_bytes += path.stat().st_size
            if num_bytes > MAX_PACKAGE_BYTES:
                raise ConfigError(
                    f"the flow's folder has more than {MAX_PACKAGE_BYTES // 2**20} MiB, too much to send along",
                    where=str(folder),
                    hint="keep large inputs where all machines see them, and name that folder with --shared",
                )
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _OLDEST)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (path.stat().st_mode & 0o755) << 16
            package.writestr(info, path.read_bytes())


def _stays(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name == "__pycache__" or (folder / "pyvenv.cfg").exists()

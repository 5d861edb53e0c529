"""The places that a job reads and writes: what lies on this machine alone is refused before anything is sent.

Owns these refusals. Never asks the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sundog.errors import ConfigError
from sundog.ir.logical import LogicalPlan
from sundog.ray.jobs.package import packed_files
from sundog.runtime.rows.folders.output_folder import OutputFolder
from sundog.runtime.rows.outputs import Output
from sundog.runtime.rows.paths import find_files

_SHARE = "--shared FOLDER names a folder that all machines of the cluster have at the same path"


def check_places(
    plan: LogicalPlan, base_dir: Path, outputs: Mapping[str, Output], state: str, shared: Sequence[Path]
) -> None:
    """ConfigError for a state, an input or an output that only this machine has. `shared`: folders that all machines
    have. InputError for an input that is not there at all."""
    if "://" not in state:
        raise ConfigError(
            f"the state '{state}' is a folder of this machine, and a job runs on another one",
            hint=f"--state s3://bucket/folder; or file:///FOLDER, where {_SHARE}",
        )
    if not _is_seen(state, shared):
        raise ConfigError(f"the state {state} may be a folder of this machine alone", hint=f"{_SHARE}: its own, say")
    packed = {path.resolve() for path in packed_files(base_dir)}
    for source in plan.inputs:
        if source.path is None or _is_seen(base_dir / source.path, shared):
            continue
        left = [path for path in find_files(source, base_dir).paths if path.resolve() not in packed]
        if left:
            raise ConfigError(
                f"the input '{source.name}' reads {left[0]}, which is not sent along",
                where=str(base_dir),
                hint="put it into the flow's folder, under a name without a dot before it, which goes along; "
                f"or: {_SHARE}",
            )
    for output in outputs.values():
        if str(output) == "-":
            raise ConfigError(
                "the rows of a job cannot go to stdout, which is its log",
                hint=f"leave --output away, and print them afterwards: sundog show last --state {state}",
            )
        path = output.path if isinstance(output, OutputFolder) else output
        if path is not None and not _is_seen(path, shared):
            raise ConfigError(
                f"the output {output} would be written on a machine of the cluster, where nobody finds it",
                hint=f"a URL, as in --output s3://bucket/answers/; or a path below such a folder ({_SHARE}); or leave "
                f"--output away: sundog show last --state {state}",
            )


def _is_seen(place: Path | str, shared: Sequence[Path]) -> bool:
    """Return whether all machines see a place: storage, or something in a shared folder."""
    text = str(place)
    scheme = urlsplit(text).scheme
    if "://" in text and scheme != "file":
        return True
    path = Path(url2pathname(urlsplit(text).path)) if "://" in text else Path(text)
    return any(path.is_absolute() and path.resolve().is_relative_to(one.resolve()) for one in shared)

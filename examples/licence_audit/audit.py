"""The Python of the licence audit: its rows, its policy database, its last check.

Owns what is read from the environment and what the company allows. Never asks a model.
"""

from __future__ import annotations

import re
import sqlite3
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path
from typing import Any

MAX_LICENCE_CHARACTERS = 2_500

# What a licence says of itself, in its text or in a classifier. The earliest match in a text decides: the MPL and the
# LGPL name the GPL further down.
FAMILIES = {
    "agpl": r"gnu affero general public|\bagpl",
    "lgpl": r"gnu (lesser|library) general public|\blgpl",
    "gpl": r"gnu general public|\bgpl",
    "mpl": r"mozilla public license|\bmpl",
    "apache": r"apache (software )?license|\bapache-2",
    "psf": r"python software foundation|\bpsf",
    "bsd": r"redistribution and use in source and binary forms|\bbsd\b",
    "isc": r"permission to use, copy, modify,? and(/or)? distribute|\bisc\b",
    "mit": r"permission is hereby granted, free of charge|\bmit\b",
}

# family, verdict, what the company says of it
POLICY = (
    ("mit", "fine", "Fine. Keep the notice."),
    ("bsd", "fine", "Fine. Keep the notice."),
    ("isc", "fine", "Fine. Keep the notice."),
    ("psf", "fine", "Fine. Keep the notice."),
    ("apache", "fine", "Fine. Keep the notices and state the changes."),
    ("mpl", "review", "Review. Ask the legal team before you change a file."),
    ("lgpl", "review", "Review. Ask the legal team how it is linked."),
    ("gpl", "reject", "Reject. It would force us to publish our own code."),
    ("agpl", "reject", "Reject. It would force us to publish our own code."),
    ("other", "review", "Review. The licence is not on the list: ask the legal team."),
)


def installed(policy_database: str) -> Iterator[dict[str, Any]]:
    """A row for each distribution of this environment, by name; builds the policy database before the first one.

    Only the folders that pip installs into are read: a library may put packages of its own on `sys.path` when it is
    imported (Ray does), and the rows must not depend on that.
    """
    build_policy(Path(__file__).with_name(policy_database))
    found: dict[str, Distribution] = {}
    for distribution in distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
        found.setdefault(re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution)
    for name in sorted(found):
        yield _row(name, found[name])


def build_policy(path: Path) -> None:
    """Write POLICY into a SQLite file, in full and in one transaction: equal content however often it is done."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table if not exists policy (family text primary key, rule text not null)")
        connection.execute("delete from policy")
        connection.executemany("insert into policy values (?, ?)", [(family, rule) for family, _, rule in POLICY])


def check(verdict: str, classifiers: Sequence[str], declared: str) -> dict[str, Any]:
    """What the policy says of the licence in the metadata, and whether the model's verdict agrees.

    `agrees` is None where the metadata names no licence.
    """
    family = family_of(" ".join(licences_named(classifiers)) or declared)
    if family == "other":
        return {"expected": None, "agrees": None}
    expected = next(decision for name, decision, _ in POLICY if name == family)
    return {"expected": expected, "agrees": verdict == expected}


def licences_named(classifiers: Sequence[str]) -> list[str]:
    """ "MIT License" from "License :: OSI Approved :: MIT License"; the other classifiers say nothing here."""
    return [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]


def family_of(text: str) -> str:
    """The licence family that `text` names first; "other" where it names none."""
    places = {family: match.start() for family, mark in FAMILIES.items() if (match := re.search(mark, text, re.I))}
    return min(places, key=places.__getitem__, default="other")


def normalise(text: str) -> str:
    """A licence text without what differs between two copies of it: holders' names, line breaks, blank lines."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\r\n", "\n"))
    kept = (_without_holders(paragraph) for paragraph in paragraphs)
    return "\n".join(paragraph for paragraph in kept if paragraph)


def _without_holders(paragraph: str) -> str:
    lines = (line for line in paragraph.splitlines() if not re.match(r"\s*(copyright|\(c\)|©|all rights)", line, re.I))
    return " ".join(" ".join(lines).split())


def _row(name: str, distribution: Distribution) -> dict[str, Any]:
    classifiers = distribution.metadata.get_all("Classifier") or []
    written = (
        _field(distribution, "License-Expression")
        or _field(distribution, "License")
        or " / ".join(licences_named(classifiers))
    )
    declared = written.strip().partition("\n")[0]
    text = normalise(_licence(distribution))
    return {
        "name": name,
        "version": distribution.version,
        "summary": _field(distribution, "Summary"),
        "declared": declared,
        "classifiers": classifiers,
        "family": family_of(text or declared),
        "licence": (text or f"No licence text. The package declares: {declared}")[:MAX_LICENCE_CHARACTERS],
    }


def _field(distribution: Distribution, name: str) -> str:
    return str((distribution.metadata.get_all(name) or [""])[0])


def _licence(distribution: Distribution) -> str:
    """The main licence file: LICENSE before COPYING, the outermost folder first, then by name; "" without one."""
    files = [file for file in distribution.files or () if re.match(r"licen[cs]e|copying", file.name, re.I)]
    own = [file for file in files if ".dist-info" in file.parts[0]]
    for file in sorted(own, key=_rank):
        path = Path(str(distribution.locate_file(file)))
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _rank(file: PackagePath) -> tuple[bool, int, int, str]:
    return file.name.lower().startswith("copying"), len(file.parts), len(file.name), str(file)

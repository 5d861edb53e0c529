"""What a program can say of a draft without reading it: is it complete, is it short?"""

from __future__ import annotations

from collections.abc import Sequence

MAX_WORDS = 60


def remark_on(draft: str, must_name: Sequence[str]) -> dict[str, str]:
    """{remark}: what to mend, in one line."""
    remarks = [f"name {fact}" for fact in must_name if not _holds(draft, fact)]
    if len(draft.split()) > MAX_WORDS:
        remarks.append(f"use at most {MAX_WORDS} words")
    return {"remark": f"Revise: {'; '.join(remarks)}." if remarks else "Good: nothing is missing."}


def _holds(draft: str, fact: str) -> bool:
    """Return whether every word of `fact` stands somewhere in the draft."""
    return all(word.lower().strip(",") in draft.lower() for word in fact.split())

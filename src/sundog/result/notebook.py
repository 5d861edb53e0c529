"""Text and pages as a notebook shows them.

Owns the classes of shown text. What the text says is known to those who make it.
"""

from __future__ import annotations

from html import escape


class NotebookText(str):
    """Text that a notebook shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Page(NotebookText):
    """A page of HTML: `str` of it is the whole document, a notebook shows it in a frame of its own."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self)}" style="width: 100%; height: 700px; border: 0"></iframe>'

"""The conversations of one row as a page that needs nothing else.

Owns the page's parts. The page is conversations.html; jinja2 escapes all that was said.
"""

from __future__ import annotations

from sundog.ir.conversations.transcript import RowConversations
from sundog.present.conversations import left_out, more_of, shown_conversations, with_visible_state
from sundog.present.html import page_template


def conversations_html(row: RowConversations, *, is_full: bool) -> str:
    """Return the page as text, with no resource from elsewhere."""
    shown = shown_conversations(row, is_full=is_full)
    return page_template("conversations.html").render(
        row=with_visible_state(row), shown=shown, more=more_of(row, shown, is_full=is_full), left_out=left_out
    )

"""The document that `explain` shows of a session, and its forms."""

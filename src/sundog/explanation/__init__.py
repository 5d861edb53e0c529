"""What `explain` shows of a session: the document, and its forms."""

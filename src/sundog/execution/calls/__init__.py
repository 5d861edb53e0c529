"""One call's way: its key, its sharing, its claim, its attempts and its result."""

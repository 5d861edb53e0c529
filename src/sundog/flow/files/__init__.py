"""Files that are part of a flow: prompts and constants."""

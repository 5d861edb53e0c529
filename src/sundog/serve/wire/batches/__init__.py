"""The forms of files and batches on the wire."""

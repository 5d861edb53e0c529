"""Outputs that are folders of parts, here or at a URL, with a manifest that says which parts they are."""

"""This room leads from a flow to an open run: the wiring that `cli` and `api` share."""

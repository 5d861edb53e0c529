"""From a flow to an open run: the wiring that `cli` and `api` share."""

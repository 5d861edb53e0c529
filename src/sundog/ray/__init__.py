"""A run on a Ray cluster: the only room that imports ray."""

"""Equal calls of all cells are made once: the owner of a range of their keys, and the exchange that asks it."""

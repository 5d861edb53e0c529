"""Tables of an estimate: how many rows they have, and the calls of a sample of them."""

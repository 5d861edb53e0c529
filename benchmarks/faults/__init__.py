"""The faults of a server under load: what asks, what is killed, and what is counted of it."""

"""A run on many machines, as pure state machines: who works on which rows, who answers which call, who may use what.
Events in, actions out. No clock, no randomness, no I/O."""

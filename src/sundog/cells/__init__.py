"""The parts of a run on many machines, without what carries messages between them: cells, owners of calls, and the
driver's side."""

"""The six workloads: as flows in ../flows, as coroutines here; a test says that both are the same."""

"""The driver of the scheduler core on an event loop, and what its owners share: recorder, event log, health, clock."""

"""The core's books on programs, of whose next calls nobody knows more than that they may come."""

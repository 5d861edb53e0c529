"""The optimizer: a logical plan in, a physical plan out. Never runs anything."""

"""The arms: ways to run one and the same batch."""

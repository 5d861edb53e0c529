"""The flow language: what a user writes -> logical plan. Never decides how a step runs."""

"""Cost: what work takes, in tokens, seconds and dollars, as pure arithmetic. Never runs or measures anything."""

"""Short words for several tables: each becomes plain tables before anything else looks at the flow."""

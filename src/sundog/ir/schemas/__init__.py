"""Forms of answers: what a flow writes, as JSON Schema, as a shape, and as a check."""

"""Values: their normal form, and their canonical bytes."""

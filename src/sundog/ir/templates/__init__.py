"""Templates: their text as data, what they read, and how they are rendered within bounds."""

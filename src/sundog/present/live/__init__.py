"""The plan as a picture with counts on its cards, for pages that show what happens now."""

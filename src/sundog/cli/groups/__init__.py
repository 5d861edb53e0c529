"""Commands that have commands below them: engines, models, keys."""

"""Flows made of what other tools' files say."""

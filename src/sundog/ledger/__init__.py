"""Limits as contracts: money and tokens are reserved before a call and settled after it. Pure arithmetic."""

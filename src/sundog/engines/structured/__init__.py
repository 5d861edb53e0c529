"""JSON Schemas as what sundog's own engines can generate."""

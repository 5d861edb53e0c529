"""The descriptions of what is served, for programs and for people."""

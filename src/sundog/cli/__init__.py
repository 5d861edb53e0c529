"""The command line: one file per command, wiring only. What a command does is in sundog.session and below."""

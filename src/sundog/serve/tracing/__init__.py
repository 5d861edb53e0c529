"""OpenTelemetry traces of a server: a trace for each row or program, a span for each call."""

"""HTTP on the wire: one client for engines, servers and http steps."""

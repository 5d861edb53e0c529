"""The cost of a gateway: a server behind it that is fast, a load, and the gateways that are compared."""

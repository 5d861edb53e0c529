"""The `mcp` step: one use of a tool that a server of the Model Context Protocol offers."""

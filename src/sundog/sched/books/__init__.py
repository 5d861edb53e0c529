"""The books of the core: records that it and the plugin change, and that policies see through views."""

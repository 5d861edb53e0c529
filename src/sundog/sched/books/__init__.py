"""What the core keeps: records that it and the plugin change, and that policies see through views."""

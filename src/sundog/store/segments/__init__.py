"""The segment log: what a store commits, on storage that outlives the machine."""

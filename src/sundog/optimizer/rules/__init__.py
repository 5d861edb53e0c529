"""The rewrite rules, one file each; catalog says in which order they are tried."""

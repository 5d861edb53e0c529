"""A run as a job of a Ray cluster: what is sent, how its secrets travel, and how its log is followed."""

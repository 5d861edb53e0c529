"""The state folder's database: results, claims, finished rows, runs. The commit point of every call."""

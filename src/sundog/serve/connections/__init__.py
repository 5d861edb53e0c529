"""The connections of a server: how bytes come and leave, and what a slow or greedy client may take."""

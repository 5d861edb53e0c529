"""The number of files that this process may have open, of which each connection is one.

Owns the change of that limit. Never counts connections.
"""

from __future__ import annotations

import resource


def allowed_files(num_files: int) -> int:
    """Raise the process' own limit to `num_files`, as far as the system lets it, and return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= num_files:
        return num_files
    wanted = num_files if hard == resource.RLIM_INFINITY else min(num_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted

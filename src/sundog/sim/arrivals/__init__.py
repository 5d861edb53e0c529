"""The wing of loads that come from elsewhere: traces, arrival processes, and the logs of a run."""

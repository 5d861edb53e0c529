"""The data of the workloads: from installed packages, nothing is downloaded."""

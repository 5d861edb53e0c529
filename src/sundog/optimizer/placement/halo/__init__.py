"""The planner of Halo (arXiv 2509.02121), as published: a baseline."""

"""The benchmark: six workloads with the graphs of Halo (arXiv 2509.02121, version 2), run by sundog and by what users
would write instead. `sundog bench` runs it from a clone."""

"""The simulator: a host of the scheduler core over modelled engines, tools and loads, in virtual time."""

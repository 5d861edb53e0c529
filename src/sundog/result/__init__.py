"""The results that Python users get: of a run, and of a simulation, with their forms in a notebook."""

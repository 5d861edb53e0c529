"""This room runs the steps of rows and their calls, for whoever owns a driver: a batch run, or the live host."""

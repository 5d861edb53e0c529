"""What a host of a batch tells the core of its plan: facts of calls, workers, what has drained, plans made anew."""

"""The side of a batch's host that tells the core of its plan: facts of calls, workers, what has drained, plans made
anew."""

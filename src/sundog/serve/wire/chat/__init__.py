"""Chat completions of engines that are no servers: a body becomes a request, and its chunks become an answer."""

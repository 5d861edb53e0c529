"""The flow files, and the function that two of them call."""

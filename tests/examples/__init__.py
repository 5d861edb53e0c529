"""The examples, run as they lie in the repository, on the null engine and on the embedded model."""

"""Vectors by the embedded engine: an embedding model in OpenVINO's form, in a process of its own."""

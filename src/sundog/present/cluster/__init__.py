"""This room shows how a plan is spread over many machines."""

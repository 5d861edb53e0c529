"""This room holds what a step asks an engine: messages that a flow holds, and those that its rows hold."""

"""The null engine: answers without a model, in no time or in the time of a modelled engine."""

"""The doors of models: a gateway in front of the engines, in the forms of OpenAI and of Anthropic."""

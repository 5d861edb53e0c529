"""The wire forms of the model gateway, as pure translations to and from OpenAI chat."""

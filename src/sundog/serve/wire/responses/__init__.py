"""The form `/v1/responses` over chat: requests, answers and streams."""

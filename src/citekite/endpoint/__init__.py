"""The OpenAI-style model endpoint: sending, waiting, trying again, and what went wrong in our words."""

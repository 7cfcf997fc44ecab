"""The OpenAI-compatible endpoint: a collection is a model, the last user turn is the question."""

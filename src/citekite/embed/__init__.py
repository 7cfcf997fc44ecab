"""Text into vectors of unit length: the embedded static model, any OpenAI-style endpoint, or sentence-transformers."""

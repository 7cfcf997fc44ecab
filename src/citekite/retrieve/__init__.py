"""Retrieval: lexical analysis, the two search legs and their fusion."""

"""Ingestion: find files, load them as documents, split, and bring the store up to date."""

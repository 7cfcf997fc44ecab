"""Measuring retrieval and answers on question sets, comparing configurations, and tuning by it."""

"""Benchmarks: `python -m bench` runs all of them and prints each target beside what was measured."""

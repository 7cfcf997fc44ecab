"""Moving collections between databases and files with their vectors, and keeping whole embedded databases."""

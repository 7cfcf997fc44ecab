"""Moving collections between databases and files with their vectors."""

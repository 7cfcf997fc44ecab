"""`python -m citekite` is the command line."""

from citekite.cli import command

command()

"""The server's folder, under the name by which the server's modules know it."""

from __future__ import annotations

from citekite.home import home_of, make_home

__all__ = ["home_of", "make_home"]

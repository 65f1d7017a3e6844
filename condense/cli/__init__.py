"""The command line: one file per command, which parses, calls the API and prints."""

from condense.cli.app import main

__all__ = ["main"]

"""``python -m geminga`` is the command line."""

from geminga.cli import entry

entry()

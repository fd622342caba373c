"""geminga: from raw gamma-ray sky maps to source catalogues."""

from importlib.metadata import version

__version__ = version("geminga")

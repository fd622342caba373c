"""geminga: from raw gamma-ray sky maps to source catalogues."""

# Written here as well as in pyproject.toml: a job's upload is imported without being installed.
__version__ = "0.1.0"

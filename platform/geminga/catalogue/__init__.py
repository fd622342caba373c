"""The product: a FITS catalogue of the sources of one sky, and DS9 regions of it."""

from geminga.catalogue.build import build_catalogue, catalog_table, probability_column
from geminga.catalogue.ellipses import CONF_68, CONF_95
from geminga.catalogue.fits_file import EXTENSION, KEYWORDS, read_fits, write_fits
from geminga.catalogue.flags import Flag, Surroundings
from geminga.catalogue.names import galactic_to_icrs, source_names
from geminga.catalogue.regions import write_regions

__all__ = [
    "CONF_68",
    "CONF_95",
    "EXTENSION",
    "KEYWORDS",
    "Flag",
    "Surroundings",
    "build_catalogue",
    "catalog_table",
    "galactic_to_icrs",
    "probability_column",
    "read_fits",
    "source_names",
    "write_fits",
    "write_regions",
]

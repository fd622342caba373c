"""Instrument response: point-spread function, effective area and exposure."""

from geminga.response.build import Response, band_exposure, build_response
from geminga.response.exposure import Exposure, interpolate_energy
from geminga.response.psf import BandPsf, PsfTable

__all__ = [
    "BandPsf",
    "Exposure",
    "PsfTable",
    "Response",
    "band_exposure",
    "build_response",
    "interpolate_energy",
]

"""Instrument response: point-spread function, effective area, exposure, energy dispersion."""

from geminga.response.build import Response, band_exposure, build_response
from geminga.response.exposure import Exposure, interpolate_energy
from geminga.response.nodes import EnergyNodes, band_nodes, log_nodes
from geminga.response.psf import BandPsf, PsfTable
from geminga.response.survey import MISSION_START, MISSION_START_MET_S
from geminga.response.yearly import YearShare, equal_shares

__all__ = [
    "MISSION_START",
    "MISSION_START_MET_S",
    "BandPsf",
    "EnergyNodes",
    "Exposure",
    "PsfTable",
    "Response",
    "YearShare",
    "band_exposure",
    "band_nodes",
    "build_response",
    "equal_shares",
    "interpolate_energy",
    "log_nodes",
]

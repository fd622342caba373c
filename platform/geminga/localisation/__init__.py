"""From score maps and counts to one list of detections for the sky."""

from geminga.localisation.choose import completeness_at_purity, score_cut
from geminga.localisation.cluster import find_sources
from geminga.localisation.kmeans import kmeans_sources
from geminga.localisation.scores import disk_area, disk_kernel_scores
from geminga.localisation.significance import significance_sources
from geminga.localisation.stitch import stitch
from geminga.localisation.wavelet import wavelet_sources

__all__ = [
    "completeness_at_purity",
    "disk_area",
    "disk_kernel_scores",
    "find_sources",
    "kmeans_sources",
    "score_cut",
    "significance_sources",
    "stitch",
    "wavelet_sources",
]

"""What the classifier and its evidence say of candidates, as columns of the catalogue."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.catalogue.build import probability_column
from geminga.classes import with_fake
from geminga.classification.class_model import ClassModel
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.light_curves import excess_variance, variability_index
from geminga.classification.spectral_fit import fit_spectra
from geminga.config import Config

_EXTENSION = DETECTION_NAMES.index("extension")


def class_columns(
    evidence: Evidence, s1: Float64, model: ClassModel, config: Config
) -> pd.DataFrame:
    """Return probabilities (``P_<class>``) and the columns of `geminga.catalogue.classified`.

    Parameters
    ----------
    evidence : Evidence
        Of n candidates.
    s1 : Float64 (n,)
        Mean photon flux 1-1000 GeV, which yearly ratios are multiplied with.
    model : ClassModel
    config : Config
        For its classes.
    """
    probabilities = model.probabilities(evidence)
    fits = fit_spectra(evidence.band_flux, evidence.band_flux_error, evidence.edges_gev)
    data: dict[str, object] = {
        "LP_Index": fits.index,
        "Unc_LP_Index": fits.index_error,
        "LP_beta": fits.curvature,
        "Unc_LP_beta": fits.curvature_error,
        "LP_SigCurv": np.sqrt(np.maximum(fits.ts_curve, 0.0)),
        "Energy_Flux": fits.energy_flux,
        "Unc_Energy_Flux": fits.energy_flux_error,
        "Ext_Signif": evidence.detection[:, _EXTENSION],
        "UNLIKE": model.unlike(evidence),
        "AMBIGUOUS": model.ambiguous(probabilities),
    }
    ratio, error = evidence.year_ratio, evidence.year_ratio_error
    if ratio.shape[1] > 1:
        data["Variability_Index"] = variability_index(ratio, error)
        data["Frac_Variability"] = np.sqrt(np.maximum(excess_variance(ratio, error), 0.0))
        for year in range(ratio.shape[1]):
            data[f"Flux_History_{year}"] = ratio[:, year] * s1
            data[f"Unc_Flux_History_{year}"] = error[:, year] * s1
    for number, name in enumerate(with_fake(config.classes)):
        data[probability_column(name)] = probabilities[:, number]
    return pd.DataFrame(data)

"""Spectral parameters of catalogue rows with their measurement scatter taken out.

``widening`` is the photon flux in 1-1000 GeV over that in 1-100 GeV, which Flux1000 is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.sky.populations.copula import without_noise
from geminga.sky.spectra import LOG_PARABOLA, photon_flux

_FHL2_PIVOT_MEV = 1e5
# The catalogues' fits stop at beta = 1 and at a 2FHL index of 15: those say nothing of the shape.
_BETA_LIMIT = 0.99
_FHL2_STEEPEST = 14.9


def power_law_index(rows: pd.DataFrame) -> tuple[Float64, Float64]:
    """Return PL_Index and its error of 4FGL rows, shape (n,) each."""
    return rows["PL_Index"].to_numpy(np.float64), _error(rows["Unc_PL_Index"])


def log_parabola_parameters(own: pd.DataFrame) -> dict[str, Float64]:
    """Return log_flux, index, curvature, log_pivot and widening of 4FGL rows as log parabolas.

    beta is the log-parabola fit's, not negative; alpha is such that the best power law is the
    catalogue's: alpha = PL_Index - c beta with c regressed over the class.
    """
    own = own[own["PL_Index"].notna() & (own["LP_beta"] < _BETA_LIMIT) & own["LP_Index"].notna()]
    log_flux = np.log10(own["Flux1000"].to_numpy())
    raw_beta, beta_error = own["LP_beta"].to_numpy(), _error(own["Unc_LP_beta"])
    # Faint sources' beta scatter by more than their errors say, bright ones' do not.
    beta = without_noise(raw_beta, beta_error, log_flux, spread_varies=True)[0]
    beta = np.maximum(beta, 0.0)
    index = without_noise(*power_law_index(own), log_flux)[0]
    sharp = beta_error < 0.1
    excess = (own["PL_Index"] - own["LP_Index"]).to_numpy()[sharp]
    c = float((excess * raw_beta[sharp]).sum() / (raw_beta[sharp] ** 2).sum())
    spectra = pd.DataFrame(
        {
            "form": LOG_PARABOLA,
            "norm": 1.0,
            "pivot_mev": own["Pivot_Energy"].to_numpy(),
            "index": index - c * beta,
            "curvature": beta,
            "exp_index": 0.0,
        }
    )
    widening = photon_flux(spectra, 1e3, 1e6) / photon_flux(spectra, 1e3, 1e5)
    return {
        "log_flux": log_flux,
        "index": spectra["index"].to_numpy(),
        "curvature": beta,
        "log_pivot": np.log10(spectra["pivot_mev"].to_numpy()),
        "widening": widening,
    }


def plec_parameters(own: pd.DataFrame) -> dict[str, Float64]:
    """Return log_flux, index, log_cutoff, log_pivot, exp_index and widening of 4FGL PLEC rows."""
    log_flux = np.log10(own["Flux1000"].to_numpy())
    index, a, b = (
        own[name].to_numpy() for name in ("PLEC_Index", "PLEC_Expfactor", "PLEC_Exp_Index")
    )
    log_cutoff = -np.log10(a) / b
    cutoff_error = _error(own["Unc_PLEC_Expfactor"]) / (a * b * np.log(10.0))
    return {
        "log_flux": log_flux,
        "index": np.maximum(without_noise(index, _error(own["Unc_PLEC_Index"]), log_flux)[0], 0.0),
        "log_cutoff": without_noise(log_cutoff, cutoff_error, log_flux)[0],
        "log_pivot": np.log10(own["Pivot_Energy"].to_numpy()),
        "exp_index": b,
        # Nothing is left above 100 GeV.
        "widening": np.ones_like(b),
    }


def power_law_parameters(own: pd.DataFrame) -> dict[str, Float64]:
    """Return log_flux, index, curvature and log_pivot of 2FHL rows, which are power laws."""
    own = own[own["Spectral_Index"] < _FHL2_STEEPEST]
    log_flux = np.log10(own["Flux50"].to_numpy())
    # A few photons measure Gamma - 1 with a constant relative error: Gaussian in the logarithm.
    excess = own["Spectral_Index"].to_numpy() - 1.0
    own, log_flux, excess = own[excess > 0], log_flux[excess > 0], excess[excess > 0]
    relative = _error(own["Unc_Spectral_Index"]) / excess
    index = 1.0 + np.exp(without_noise(np.log(excess), relative, log_flux)[0])
    constant = np.zeros(len(own))
    return {
        "log_flux": log_flux,
        "index": index,
        "curvature": constant,
        "log_pivot": constant + np.log10(_FHL2_PIVOT_MEV),
    }


def independent_parameters(rows: pd.DataFrame, plec: bool) -> dict[str, Float64]:
    """Return 4FGL rows' parameters as the catalogue has them, by name of their published law.

    Fits of a log parabola that stopped at beta = 1 are left out.
    """
    if plec:
        return {
            "log_norm": np.log10(rows["PLEC_Flux_Density"].to_numpy()),
            "log_pivot": np.log10(rows["Pivot_Energy"].to_numpy()),
            "index": rows["PLEC_Index"].to_numpy(),
            "log_expfactor": np.log10(rows["PLEC_Expfactor"].to_numpy()),
            "exp_index": rows["PLEC_Exp_Index"].to_numpy(),
        }
    rows = rows[(rows["LP_beta"] < _BETA_LIMIT) & rows["LP_Index"].notna()]
    return {
        "log_norm": np.log10(rows["LP_Flux_Density"].to_numpy()),
        "log_pivot": np.log10(rows["Pivot_Energy"].to_numpy()),
        "index": rows["LP_Index"].to_numpy(),
        "curvature": rows["LP_beta"].to_numpy(),
    }


def independent_power_law(own: pd.DataFrame) -> dict[str, Float64]:
    """Return 2FHL rows' parameters by name of their published law; beta is constant."""
    own = own[(own["Spectral_Index"] < _FHL2_STEEPEST) & (own["Spectral_Index"] > 1.0)]
    index = own["Spectral_Index"].to_numpy()
    spectra = pd.DataFrame(
        {
            "form": LOG_PARABOLA,
            "norm": 1.0,
            "pivot_mev": _FHL2_PIVOT_MEV,
            "index": index,
            "curvature": 0.0,
            "exp_index": 0.0,
        }
    )
    norm = own["Flux50"].to_numpy() / photon_flux(spectra, 5e4, 2e6)
    return {
        "log_norm": np.log10(norm),
        "log_pivot": np.full(len(own), np.log10(_FHL2_PIVOT_MEV)),
        "index": index,
        "curvature": np.zeros(len(own)),
    }


def _error(column: pd.Series[float]) -> Float64:
    error = column.to_numpy(np.float64)
    return np.where(np.isfinite(error) & (error > 0), error, np.nanmedian(error))

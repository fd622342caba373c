"""Simulated and observed skies: populations, spectra, diffuse emission, expected counts, photons."""

"""Poisson statistics of point sources in patches: templates, TS maps, fits, backgrounds."""

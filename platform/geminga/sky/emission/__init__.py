"""Interstellar and isotropic emission, extended sources, and their expected counts."""

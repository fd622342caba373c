"""Cosine modes of a patch: from coefficients to fields and back, cells out of pixels."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.compiled import compiled


def cosine_modes(cells: int, modes: int) -> Float64:
    """Return orthonormal cosines at cell centres, shape (cells, modes)."""
    place = (np.arange(cells) + 0.5) / cells
    result = np.cos(np.pi * place[:, None] * np.arange(modes)) * np.sqrt(2.0 / cells)
    result[:, 0] = np.sqrt(1.0 / cells)
    return np.asarray(result)


@compiled
def synthesise(
    basis: Float64, basis_t: Float64, modes: Float64, half: Float64, out: Float64
) -> None:
    """Write basis @ modes @ basis_t to out (n, n); half (n, k) is room to work."""
    n, k = basis.shape
    for i in range(n):
        for b in range(k):
            half[i, b] = 0.0
        for a in range(k):
            f = basis[i, a]
            for b in range(k):
                half[i, b] += f * modes[a, b]
        for j in range(n):
            out[i, j] = 0.0
        for b in range(k):
            f = half[i, b]
            for j in range(n):
                out[i, j] += f * basis_t[b, j]


@compiled
def analyse(basis: Float64, image: Float64, half: Float64, out: Float64) -> None:
    """Write basis.T @ image @ basis to out (k, k); half (n, k) is room to work."""
    n, k = basis.shape
    for a in range(k):
        for b in range(k):
            out[a, b] = 0.0
    for i in range(n):
        for b in range(k):
            half[i, b] = 0.0
        for j in range(n):
            f = image[i, j]
            for b in range(k):
                half[i, b] += f * basis[j, b]
        for a in range(k):
            f = basis[i, a]
            for b in range(k):
                out[a, b] += f * half[i, b]


@compiled
def coefficients(scatter: Float64, mix: Float64, u: Float64, out: Float64) -> None:
    """Write the modes (C, k, k) of every channel's field: scatter x (mix @ u)."""
    channels, k, _ = u.shape
    for c in range(channels):
        for a in range(k):
            for b in range(k):
                out[c, a, b] = 0.0
        for j in range(c + 1):
            f = mix[1, c, j]
            for a in range(k):
                for b in range(k):
                    out[c, a, b] += f * u[j, a, b]
        out[c, 0, 0] = 0.0
        for j in range(c + 1):
            out[c, 0, 0] += mix[0, c, j] * u[j, 0, 0]
        for a in range(k):
            for b in range(k):
                out[c, a, b] *= scatter[c, a, b]


@compiled
def add_transposed(scatter: Float64, mix: Float64, c: int, modes: Float64, out: Float64) -> None:
    """Add to out (C, k, k) what channel c's modes (k, k) are to u."""
    k = len(modes)
    for j in range(c + 1):
        constant = out[j, 0, 0] + mix[0, c, j] * scatter[c, 0, 0] * modes[0, 0]
        f = mix[1, c, j]
        for a in range(k):
            for b in range(k):
                out[j, a, b] += f * scatter[c, a, b] * modes[a, b]
        out[j, 0, 0] = constant


@compiled
def rebin(image: Float64, left_out: Bool, out: Float64) -> None:
    """Write the sums of an image (n, n) in the cells of `out` (m, m), m a divisor of n."""
    m = len(out)
    step = len(image) // m
    out[:] = 0.0
    for a in range(m):
        for i in range(a * step, (a + 1) * step):
            j = 0
            for b in range(m):
                total = out[a, b]
                for _ in range(step):
                    if not left_out[i, j]:
                        total += image[i, j]
                    j += 1
                out[a, b] = total

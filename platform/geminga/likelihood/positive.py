"""Linear equations with symmetric, positive matrices.

Compiled here, not called from a library: results have the same bits on any number of threads, and
small matrices of many patches do not wake a pool of threads each.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.compiled import compiled


@compiled
def root(matrix: Float64) -> Float64:
    """Return Cholesky's lower factor of a matrix (n, n).

    A pivot that rounding has made zero or negative is taken as 1e-12 of its diagonal.
    """
    n = len(matrix)
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total / factor[j, j]
        pivot = matrix[i, i]
        for k in range(i):
            pivot -= factor[i, k] ** 2
        factor[i, i] = np.sqrt(max(pivot, 1e-12 * matrix[i, i], 1e-300))
    return factor


@compiled
def solve_root(factor: Float64, right: Float64) -> Float64:
    """Solve factor factor^T x = right for x (n,)."""
    n = len(factor)
    x = right.copy()
    for i in range(n):
        for k in range(i):
            x[i] -= factor[i, k] * x[k]
        x[i] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        x[i] /= factor[i, i]
        for k in range(i):
            x[k] -= factor[i, k] * x[i]
    return x


@compiled
def solve(matrix: Float64, right: Float64) -> Float64:
    """Solve matrix x = right for x (n,)."""
    return solve_root(root(matrix), right)


@compiled
def inverse(matrix: Float64) -> Float64:
    """Return the inverse (n, n)."""
    factor = root(matrix)
    n = len(matrix)
    result = np.empty((n, n))
    unit = np.zeros(n)
    for i in range(n):
        unit[i] = 1.0
        result[i] = solve_root(factor, unit)
        unit[i] = 0.0
    return result

"""Sums of n ln(1 + m k / b) over the pixels around every place, for many m at once.

A source of m counts with template k on a background b changes the log-likelihood by
sum n ln(1 + m k / b) - m sum k. Around the source m k / b is large and few pixels matter: their
factors are multiplied together and the logarithm is taken once (`multiply_core`). Farther out it
is at most `TAIL_LIMIT`, and a polynomial stands for the logarithm: its powers are
correlations of n / b^j with k^j, done by fast Fourier transform for all m together.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.compiled import compiled

TAIL_LIMIT = 2.0
"""Largest m k / b that the polynomial is used for."""
TAIL_COEFFICIENTS = np.array([1.0, -0.49848892, 0.30110524, -0.13434664, 0.02622824])
"""ln(1 + u) = sum a_j u^j for 0 <= u <= 2 with an error below 0.0015 u^2: the minimax
approximation of (u - ln(1 + u)) / u^2. A TS, of the order of sum n u^2, is off by 0.3 % at most."""
MOST_PRODUCTS = 1000
"""Pixels of more counts, or of a fraction of one, add their logarithm instead of a product."""
_FLUSH = 1e150
_LN_FLUSH = 345.0
_ONE_BITS = np.int64(1023 << 52)
_MANTISSA = np.int64((1 << 52) - 1)


@compiled
def _mantissa(bits: np.int64) -> np.int64:
    """Return the bits of the same number between 1 and 2."""
    return (bits & _MANTISSA) | _ONE_BITS


@compiled
def _logarithm(bits: np.int64, mantissa: float) -> float:
    """Return ln of a normal number above 0 from its bits and its mantissa; error below 1e-7.

    ln 2 times the binary exponent, and the series of artanh for the mantissa: no branches, so that
    the compiler turns loops of it into vector instructions.
    """
    exponent = np.float64((bits >> 52) - 1023)
    z = (mantissa - 1.4142135623730951) / (mantissa + 1.4142135623730951)
    z2 = z * z
    series = z * (2.0 + z2 * (0.6666666666666666 + z2 * (0.4 + z2 * 0.2857142857142857)))
    return (exponent + 0.5) * 0.6931471805599453 + series


@compiled
def add_logarithm(values: Float64, weight: float, total: Float64) -> None:
    """Add weight ln(values) to a total, both (N,), for normal values above 0; see `_logarithm`."""
    bits = values.view(np.int64)
    mantissa = np.empty(len(values))
    mantissa_bits = mantissa.view(np.int64)
    for i in range(len(values)):
        mantissa_bits[i] = _mantissa(bits[i])
    for i in range(len(values)):
        total[i] += weight * _logarithm(bits[i], mantissa[i])


@compiled
def multiply_core(
    counts: Float32,
    background: Float32,
    dy: Int64,
    dx: Int64,
    factor: Float64,
    steps: int,
    margin: int,
    stride: int,
    first_row: int,
    first_column: int,
    product: Float64,
    total: Float64,
) -> None:
    """Multiply (1 + m k / b)^n into every place whose core holds a counted pixel.

    Parameters
    ----------
    counts, background : Float32 (n, n)
    dy, dx : Int64 (D,)
        Offsets of the core's pixels from the source.
    factor : Float64 (D, Q)
        m k of each offset, for every template and, fastest and rising, every m.
    steps : int
        Number of m per template.
    margin : int
        Places up to this many pixels outside the image are summed too, g.
    stride, first_row, first_column : int
        Place (i, j) of the image with its margin is place (first_row + stride i, first_column +
        stride j) of the results.
    product : Float64 (N, N, Q), N = stride (n + 2 g)
        Running products, at least 1.
    total : Float64 (N, N, Q)
        Logarithms of the products that grew too long, and of pixels of many counts.
    """
    n, width = counts.shape[0], factor.shape[1]
    end = n + 2 * margin
    largest = factor.max() if factor.size else 0.0
    base = np.empty(width)
    power = np.empty(width)
    mantissa = np.empty(width)
    base_bits, mantissa_bits = base.view(np.int64), mantissa.view(np.int64)
    for row in range(n):
        for column in range(n):
            photons = counts[row, column]
            if photons <= 0.0:
                continue
            inverse = 1.0 / np.float64(background[row, column])
            whole = int(photons) if photons <= MOST_PRODUCTS else 0
            if whole != photons or whole * np.log1p(inverse * largest) > _LN_FLUSH:
                whole = 0
            for d in range(len(dy)):
                y, x = row - dy[d] + margin, column - dx[d] + margin
                if y < 0 or y >= end or x < 0 or x >= end:
                    continue
                y, x = first_row + stride * y, first_column + stride * x
                # Written out here: a slice for a function to work on costs more than the work.
                if whole == 1:
                    for q in range(width):
                        product[y, x, q] *= 1.0 + inverse * factor[d, q]
                else:
                    for q in range(width):
                        base[q] = 1.0 + inverse * factor[d, q]
                    if whole == 0:
                        # `add_logarithm`, without its memory and its slice.
                        for q in range(width):
                            mantissa_bits[q] = _mantissa(base_bits[q])
                        for q in range(width):
                            total[y, x, q] += photons * _logarithm(base_bits[q], mantissa[q])
                        continue
                    for q in range(width):
                        power[q] = base[q] if whole % 2 == 1 else 1.0
                    left = whole // 2
                    while left > 0:
                        for q in range(width):
                            base[q] *= base[q]
                        if left % 2 == 1:
                            for q in range(width):
                                power[q] *= base[q]
                        left //= 2
                    for q in range(width):
                        product[y, x, q] *= power[q]
                # The last flux of every template has its largest product.
                longest = 0.0
                for q in range(steps - 1, width, steps):
                    longest = max(longest, product[y, x, q])
                if longest > _FLUSH:
                    add_logarithm(product[y, x], 1.0, total[y, x])
                    for q in range(width):
                        product[y, x, q] = 1.0


@compiled
def tail_powers(
    counts: Float32, background: Float32, floor: float, margin: int, powers: Float64
) -> None:
    """Write n (floor / b)^j for j = 1, 2, ... into padded images (J, N, N), from (margin, margin).

    `floor` is the lowest background of a counted pixel, so that no power exceeds n.
    """
    n = counts.shape[0]
    for row in range(n):
        for column in range(n):
            photons = np.float64(counts[row, column])
            ratio = floor / np.float64(background[row, column])
            for j in range(len(powers)):
                photons *= ratio
                powers[j, row + margin, column + margin] = photons

"""A smooth factor on the interstellar emission that follows the counts: a Poisson field model.

The expected counts of channel c in a cell x of a patch are

    mu_c(x) = I_c(x) exp g_c(x) + E_c(x) exp e_c + S_c(x)

with the interstellar template I, the isotropic E and what is known (sources found so far) S. The
field g is a sum of cosine modes, g_c(x) = sum_k a_c(k) sum_j L_cj u_j(k) phi_k(x), where u has
independent normal priors of width one: a_c(k) is the prior scatter of a mode, with the PSF's
smoothing folded in, and L the Cholesky factor of the correlation between channels. The norms
e_c = sum_j M_cj v_j likewise. The most probable (u, v) is found by Gauss-Newton steps (Fisher
scoring) whose equations are solved by conjugate gradients with a preconditioner that is exact
for a flat background. Modes that few photons speak of stay near zero: shrinkage by Poisson error,
at every scale and between channels at once (a log-Gaussian Cox process; Moeller et al. 1998).
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.compiled import compiled
from geminga.likelihood.field_modes import add_transposed, analyse, coefficients, synthesise

MAX_LN = 6.0
"""|g| and |e| stay below this: a factor of 400."""
TINY = 1e-9
HALVINGS = 6


@compiled
def _objective(
    counts: Float64,
    fields: Float64,
    interstellar: Float64,
    isotropic: Float64,
    fixed: Float64,
    norms: Float64,
    u: Float64,
    v: Float64,
    d_field: Float64,
    d_norm: Float64,
    mean: Float64,
) -> float:
    """Return -ln posterior; write the derivatives of the mean after g and e, and the mean."""
    result = 0.5 * (np.sum(u * u) + np.sum(v * v))
    channels, n, _ = counts.shape
    for c in range(channels):
        scale = np.exp(min(max(norms[c], -MAX_LN), MAX_LN))
        for i in range(n):
            for j in range(n):
                g = min(max(fields[c, i, j], -MAX_LN), MAX_LN)
                d_field[c, i, j] = interstellar[c, i, j] * np.exp(g)
                d_norm[c, i, j] = isotropic[c, i, j] * scale
                mu = d_field[c, i, j] + d_norm[c, i, j] + fixed[c, i, j] + TINY
                mean[c, i, j] = mu
                result += mu
                if counts[c, i, j] > 0.0:
                    result -= counts[c, i, j] * np.log(mu)
    return result


@compiled
def _hessian(
    basis: Float64,
    basis_t: Float64,
    scatter: Float64,
    mix: Float64,
    norm_mix: Float64,
    d_field: Float64,
    d_norm: Float64,
    mean: Float64,
    u: Float64,
    v: Float64,
    out_u: Float64,
    out_v: Float64,
    room: Float64,
    half: Float64,
    image: Float64,
    modes: Float64,
) -> None:
    """Write (1 + J^T diag(1 / mean) J) (u, v) to (out_u, out_v)."""
    channels, n, _ = mean.shape
    coefficients(scatter, mix, u, room)
    out_u[:] = u
    out_v[:] = v
    for c in range(channels):
        synthesise(basis, basis_t, room[c], half, image)
        norm = 0.0
        for j in range(c + 1):
            norm += norm_mix[c, j] * v[j]
        back = 0.0
        for i in range(n):
            for j in range(n):
                change = d_field[c, i, j] * image[i, j] + d_norm[c, i, j] * norm
                change /= mean[c, i, j]
                image[i, j] = change * d_field[c, i, j]
                back += change * d_norm[c, i, j]
        analyse(basis, image, half, modes)
        add_transposed(scatter, mix, c, modes, out_u)
        for j in range(c + 1):
            out_v[j] += norm_mix[c, j] * back


@compiled
def _solve_small(matrix: Float64, right: Float64) -> None:
    """Overwrite `right` with the solution for a positive definite matrix, which is destroyed."""
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for m in range(j):
                total -= matrix[i, m] * matrix[j, m]
            matrix[i, j] = np.sqrt(total) if i == j else total / matrix[j, j]
    for i in range(n):
        for m in range(i):
            right[i] -= matrix[i, m] * right[m]
        right[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for m in range(i + 1, n):
            right[i] -= matrix[m, i] * right[m]
        right[i] /= matrix[i, i]


@compiled
def _inverses(scatter: Float64, mix: Float64, weight: Float64, out: Float64) -> None:
    """Write the inverses (k, k, C, C) of the equations of each mode for flat weights (C,)."""
    channels, k, _ = scatter.shape
    column = np.empty(channels)
    matrix = np.empty((channels, channels))
    for a in range(k):
        for b in range(k):
            which = 0 if a == 0 and b == 0 else 1
            for m in range(channels):
                for i in range(channels):
                    for j in range(channels):
                        total = 1.0 if i == j else 0.0
                        for c in range(max(i, j), channels):
                            part = scatter[c, a, b]
                            total += mix[which, c, i] * mix[which, c, j] * part * part * weight[c]
                        matrix[i, j] = total
                column[:] = 0.0
                column[m] = 1.0
                _solve_small(matrix, column)
                for i in range(channels):
                    out[a, b, i, m] = column[i]


@compiled
def _precondition(
    inverse: Float64, inverse_v: Float64, r: Float64, s: Float64, out: Float64, out_s: Float64
) -> None:
    channels, k, _ = r.shape
    for a in range(k):
        for b in range(k):
            for i in range(channels):
                total = 0.0
                for j in range(channels):
                    total += inverse[a, b, i, j] * r[j, a, b]
                out[i, a, b] = total
    for i in range(channels):
        out_s[i] = 0.0
        for j in range(channels):
            out_s[i] += inverse_v[i, j] * s[j]


@compiled
def fit_field(
    counts: Float64,
    interstellar: Float64,
    isotropic: Float64,
    fixed: Float64,
    basis: Float64,
    scatter: Float64,
    mix: Float64,
    norm_mix: Float64,
    u: Float64,
    v: Float64,
    newton_steps: int,
    gradient_steps: int,
    tolerance: float,
) -> float:
    """Find the most probable field of one patch; see the head of the file.

    Parameters
    ----------
    counts, interstellar, isotropic, fixed : Float64 (C, n, n)
        Photons and expected counts in each cell; all zero where cells are left out.
    basis : Float64 (n, k)
        `cosine_modes`.
    scatter : Float64 (C, k, k)
        Prior standard deviation of the modes, PSF folded in.
    mix : Float64 (2, C, C)
        Lower triangles: Cholesky factors of the correlation between channels of the constant
        mode and of all others.
    norm_mix : Float64 (C, C)
        The same for the isotropic norms, times their standard deviation.
    u, v : Float64 (C, k, k), (C,)
        Start; overwritten with the solution.
    newton_steps, gradient_steps : int
        At most so many Gauss-Newton steps, and conjugate-gradient steps in each.
    tolerance : float
        Steps end when -ln posterior falls by less than this.

    Returns
    -------
    float
        How many modes, the constant ones left out, the photons determine: the number of all less
        the sum of their posterior variances, for flat weights (MacKay 1992, Neural Comput. 4, 415).
    """
    channels, n, _ = counts.shape
    k = basis.shape[1]
    basis_t = np.ascontiguousarray(basis.T)
    half = np.empty((n, k))
    image = np.empty((n, n))
    modes = np.empty((k, k))
    room = np.empty((channels, k, k))
    fields = np.empty((channels, n, n))
    d_field = np.empty((channels, n, n))
    d_norm = np.empty((channels, n, n))
    mean = np.empty((channels, n, n))
    inverse = np.empty((k, k, channels, channels))
    inverse_v = np.empty((1, 1, channels, channels))
    weight = np.empty(channels)
    weight_v = np.empty(channels)
    norms = np.empty(channels)
    ones = np.ones((channels, 1, 1))
    norm_mixes = np.zeros((2, channels, channels))
    norm_mixes[0] = norm_mix
    r, z, p, q = np.empty_like(u), np.empty_like(u), np.empty_like(u), np.empty_like(u)
    rv, zv, pv, qv = np.empty_like(v), np.empty_like(v), np.empty_like(v), np.empty_like(v)
    x, xv = np.empty_like(u), np.empty_like(v)
    trial, trial_v = u.copy(), v.copy()
    value = np.inf
    step = 1.0
    for taken in range(newton_steps + 1):
        # Where the last step led; shorter while the posterior is not better for it.
        better = np.inf
        for _ in range(HALVINGS):
            if taken > 0:
                trial[:] = u + step * x
                trial_v[:] = v + step * xv
            coefficients(scatter, mix, trial, room)
            for c in range(channels):
                synthesise(basis, basis_t, room[c], half, fields[c])
            for c in range(channels):
                norms[c] = 0.0
                for j in range(c + 1):
                    norms[c] += norm_mix[c, j] * trial_v[j]
            better = _objective(
                counts,
                fields,
                interstellar,
                isotropic,
                fixed,
                norms,
                trial,
                trial_v,
                d_field,
                d_norm,
                mean,
            )
            if better <= value or taken == 0:
                break
            step *= 0.5
        if better > value:
            break
        u[:] = trial
        v[:] = trial_v
        step = 1.0
        if value - better < tolerance or taken == newton_steps:
            break
        value = better
        r[:] = -u
        rv[:] = -v
        for c in range(channels):
            total = 0.0
            total_v = 0.0
            back = 0.0
            for i in range(n):
                for j in range(n):
                    misfit = counts[c, i, j] / mean[c, i, j] - 1.0
                    image[i, j] = misfit * d_field[c, i, j]
                    back += misfit * d_norm[c, i, j]
                    total += d_field[c, i, j] * d_field[c, i, j] / mean[c, i, j]
                    total_v += d_norm[c, i, j] * d_norm[c, i, j] / mean[c, i, j]
            weight[c] = total / (n * n)
            weight_v[c] = total_v
            analyse(basis, image, half, modes)
            add_transposed(scatter, mix, c, modes, r)
            for j in range(c + 1):
                rv[j] += norm_mix[c, j] * back
        _inverses(scatter, mix, weight, inverse)
        _inverses(ones, norm_mixes, weight_v, inverse_v)
        x[:] = 0.0
        xv[:] = 0.0
        _precondition(inverse, inverse_v[0, 0], r, rv, z, zv)
        p[:] = z
        pv[:] = zv
        rho = np.sum(r * z) + np.sum(rv * zv)
        first = rho
        for _ in range(gradient_steps):
            # r.z is twice the gain still to be had, in units of ln posterior.
            if rho < 0.2 * tolerance or rho < 1e-6 * first:
                break
            _hessian(
                basis,
                basis_t,
                scatter,
                mix,
                norm_mix,
                d_field,
                d_norm,
                mean,
                p,
                pv,
                q,
                qv,
                room,
                half,
                image,
                modes,
            )
            alpha = rho / (np.sum(p * q) + np.sum(pv * qv))
            x += alpha * p
            xv += alpha * pv
            r -= alpha * q
            rv -= alpha * qv
            _precondition(inverse, inverse_v[0, 0], r, rv, z, zv)
            following = np.sum(r * z) + np.sum(rv * zv)
            p[:] = z + (following / rho) * p
            pv[:] = zv + (following / rho) * pv
            rho = following
    determined = 0.0
    for a in range(k):
        for b in range(k):
            for c in range(channels):
                if a > 0 or b > 0:
                    determined += 1.0 - inverse[a, b, c, c]
    return determined

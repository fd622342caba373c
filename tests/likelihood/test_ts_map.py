from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from geminga.arrays import Float32, Float64
from geminga.bands import Band
from geminga.config import Config, ImageConfig, LikelihoodConfig
from geminga.errors import InputError
from geminga.likelihood import map_plan
from geminga.likelihood.kernels import PointKernels, counts_per_flux, make_kernels, map_phases
from geminga.likelihood.ladder import HEADROOM, best_flux, flux_ladder
from geminga.likelihood.log_sums import TAIL_COEFFICIENTS, TAIL_LIMIT, add_logarithm
from geminga.likelihood.peaks import local_maxima
from geminga.likelihood.ts_map import TsMaps, ts_maps
from geminga.response import Response, build_response

SIZE = 10.0
TOP = 128
SETTINGS = LikelihoodConfig()
BANDS = (
    Band(emin_gev=0.5, emax_gev=1, nside=128, pixels=32),
    Band(emin_gev=1, emax_gev=3, nside=256, pixels=64),
    Band(emin_gev=3, emax_gev=10, nside=512, pixels=128),
    Band(emin_gev=10, emax_gev=2000, nside=512, pixels=128),
)
# Counts per square degree at high latitude, and 15 times as many near the plane.
DENSITY = (150.0, 60.0, 10.0, 1.5)
LEVELS = (1.0, 15.0)
FLUX = (0.0, 1e-10, 2.5e-10, 6e-10)


@dataclass(frozen=True)
class Scene:
    """Patches with sources of rising flux, one of them at the edge."""

    kernels: tuple[PointKernels, ...]
    fine: tuple[PointKernels, ...]
    per_flux: Float64
    counts: list[Float32]
    background: list[Float32]
    places: list[tuple[int, int]]

    def maps(self, **change: object) -> TsMaps:
        parts = {
            "counts": self.counts,
            "background": self.background,
            "kernels": self.kernels,
            "counts_per_flux": self.per_flux,
            "settings": SETTINGS,
            **change,
        }
        return ts_maps(**parts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def response() -> Response:
    return build_response(Config(bands=BANDS, images=ImageConfig(box_deg=(2.0,) * len(BANDS))))


@pytest.fixture(scope="module")
def scene(response: Response) -> Scene:
    channels = response.channels
    phases = tuple(TOP // c.pixels for c in channels)
    kernels, fine = (
        tuple(make_kernels(response.psf, channels, SIZE, i, phases=p) for i in SETTINGS.indices)
        for p in (map_phases(channels), phases)
    )
    one = counts_per_flux(response, channels, np.array([30.0]), np.array([60.0]), SETTINGS.indices)
    rng = np.random.default_rng(4)
    tilt = np.linspace(0.7, 1.3, TOP)
    background = [
        np.stack(
            [
                level * d * (SIZE / c.pixels) ** 2 * tilt[:: TOP // c.pixels]
                + np.zeros((c.pixels, 1))
                for level in LEVELS
            ]
        ).astype(np.float32)
        for c, d in zip(channels, DENSITY, strict=True)
    ]
    places = [(30, 31), (28, 90), (95, 36), (97, 127)]
    expected = [b.astype(np.float64) for b in background]
    for flux, (row, column), t in zip(FLUX, places, (1, 0, 1, 2), strict=True):
        for p, level in enumerate(LEVELS):
            for c in range(len(channels)):
                image = template(fine[t], c, row, column, channels[c].pixels)
                expected[c][p] += np.sqrt(level) * flux * one[0, t, c] * image
    counts = [rng.poisson(e).astype(np.float32) for e in expected]
    return Scene(kernels, fine, np.repeat(one, 2, axis=0), counts, background, places)


def template(kernels: PointKernels, channel: int, row: int, column: int, pixels: int) -> Float64:
    """Return the image of a source at the centre of one of the finest pixels."""
    ratio = TOP // pixels
    half = kernels.half_px[channel]
    wide = np.zeros((pixels + 2 * half, pixels + 2 * half))
    r, c = row // ratio, column // ratio
    size = 2 * half + 1
    wide[r : r + size, c : c + size] = kernels.values[channel][row % ratio, column % ratio]
    return wide[half : half + pixels, half : half + pixels]


def exact(scene: Scene, patch: int, row: int, column: int) -> tuple[float, float]:
    """Return TS and flux of the profile likelihood, without any of the map's approximations."""
    best, best_at = 0.0, 0.0
    for t, kernels in enumerate(scene.fine):
        n, ratio, total = [], [], 0.0
        for c, image in enumerate(scene.counts):
            model = template(kernels, c, row, column, image.shape[1]) * scene.per_flux[patch, t, c]
            total += model.sum()
            n.append(image[patch].ravel().astype(np.float64))
            ratio.append((model / scene.background[c][patch]).ravel())
        photons, excess = np.concatenate(n), np.concatenate(ratio)

        def loss(
            x: float, photons: Float64 = photons, excess: Float64 = excess, total: float = total
        ) -> float:
            return float(np.exp(x) * total - photons @ np.log1p(np.exp(x) * excess))

        if photons @ excess > total:
            found = minimize_scalar(
                loss,
                bounds=(np.log(1e-13), np.log(1e-7)),
                method="bounded",
                options={"xatol": 1e-7},
            )
            if -2 * found.fun > best:
                best, best_at = -2 * float(found.fun), float(np.exp(found.x))
    return best, best_at


def test_maps_agree_with_the_exact_profile_likelihood(scene: Scene) -> None:
    maps = scene.maps()
    assert maps.ts.shape == maps.flux.shape == maps.template.shape == (2, TOP, TOP)
    assert (maps.ts.dtype, maps.flux.dtype, maps.template.dtype) == ("f4", "f4", "i1")
    patch, row, column, _ = local_maxima(maps.ts.astype(np.float64), 4.0, 2.0)
    rng = np.random.default_rng(9)
    places = [(p, *place) for p in range(2) for place in scene.places]
    places += list(zip(patch, np.rint(row).astype(int), np.rint(column).astype(int), strict=True))
    places += [tuple(rng.integers((2, TOP, TOP))) for _ in range(60)]
    strong = 0
    for place in places:
        ts, flux = exact(scene, *place)
        if ts > SETTINGS.map_top_ts:
            # The flux may be beyond the last one that is tried.
            assert 0.7 * ts < maps.ts[place] < 1.03 * ts
            continue
        assert abs(maps.ts[place] - ts) < max(0.5, 0.03 * ts), (place, maps.ts[place], ts)
        if ts > 9:
            strong += 1
            assert maps.flux[place] == pytest.approx(flux, rel=0.1)
    assert strong >= 8


def test_sources_are_the_highest_peaks_at_their_places(scene: Scene) -> None:
    maps = scene.maps()
    for p in range(2):
        for (row, column), flux in list(zip(scene.places, FLUX, strict=True))[2:]:
            r, c = slice(max(row - 4, 0), row + 5), slice(max(column - 4, 0), column + 5)
            around = maps.ts[p, r, c]
            y, x = np.unravel_index(around.argmax(), around.shape)
            assert around.max() > 25
            assert abs(y + r.start - row) <= 1
            assert abs(x + c.start - column) <= 1
            # Noise may prefer another spectrum, whose flux above 1 GeV is another one.
            ratio = maps.flux[p, row, column] / (flux * LEVELS[p] ** 0.5)
            assert 0.3 < ratio < 3.0
    # Where there is no source the TS is what chance makes: above 9 hardly anywhere.
    far = maps.ts[:, 55:75, 50:110]
    assert np.mean(far > 9) < 0.02
    assert np.array_equal(maps.template < 0, maps.ts == 0)
    assert np.array_equal(maps.flux == 0, maps.ts == 0)


def test_a_patch_does_not_depend_on_the_others(scene: Scene) -> None:
    whole = scene.maps()
    second = slice(1, 2)
    alone = scene.maps(
        counts=[c[second] for c in scene.counts],
        background=[b[second] for b in scene.background],
        counts_per_flux=scene.per_flux[second],
    )
    for name in ("ts", "flux", "template"):
        assert np.array_equal(getattr(whole, name)[second], getattr(alone, name))


def test_kernels_without_phases_are_interpolated(response: Response, scene: Scene) -> None:
    plain = [make_kernels(response.psf, response.channels, SIZE, i) for i in SETTINGS.indices]
    coarse, fine = scene.maps(kernels=plain).ts, scene.maps().ts
    peaks = fine > 16
    assert np.abs(coarse[peaks] / fine[peaks] - 1).max() < 0.1


@pytest.mark.parametrize("channel", [0, 3])
def test_one_channel_works(scene: Scene, channel: int) -> None:
    def only(values: Sequence[Float32]) -> list[Float32]:
        return [values[channel]]

    kernels = tuple(
        PointKernels(
            (k.values[channel][:1, :1],), (k.half_px[channel],), (1,), (k.pixel_deg[channel],), 2.2
        )
        for k in scene.kernels
    )
    maps = scene.maps(
        counts=only(scene.counts),
        background=only(scene.background),
        kernels=kernels,
        counts_per_flux=scene.per_flux[:, :, [channel]],
    )
    n = scene.counts[channel].shape[1]
    assert maps.ts.shape == (2, n, n)
    assert maps.ts.max() > 9


def test_nothing_counted_is_no_source(scene: Scene) -> None:
    maps = scene.maps(counts=[np.zeros_like(c) for c in scene.counts])
    assert not maps.ts.any()
    assert (maps.template == -1).all()
    blind = scene.maps(counts_per_flux=np.zeros_like(scene.per_flux))
    assert not blind.ts.any()


def test_a_hot_pixel_changes_nothing_far_away(scene: Scene) -> None:
    hot = [c.copy() for c in scene.counts]
    hot[2][0, 100, 20] = 1e9
    maps, before = scene.maps(counts=hot), scene.maps()
    assert np.isfinite(maps.ts).all()
    assert maps.ts[0].argmax() == 100 * TOP + 20
    np.testing.assert_array_equal(maps.ts[1], before.ts[1])
    far = np.s_[0, :50, 70:]
    np.testing.assert_allclose(maps.ts[far], before.ts[far], atol=0.05, rtol=0.01)


def test_expected_counts_give_the_expected_ts(scene: Scene) -> None:
    row, column = 80, 66
    flux = 3e-10
    counts, asimov = [], 0.0
    for c, b in enumerate(scene.background):
        image = template(scene.fine[1], c, row, column, b.shape[1]) * scene.per_flux[0, 1, c] * flux
        counts.append((b + image).astype(np.float32))
        asimov += 2 * float(((b[0] + image) * np.log1p(image / b[0]) - image).sum())
    maps = scene.maps(counts=counts)
    assert 20 < asimov < 100
    assert maps.ts[0, row, column] == pytest.approx(asimov, rel=0.02)
    assert maps.flux[0, row, column] == pytest.approx(flux, rel=0.02)
    assert maps.template[0, row, column] == 1


def test_background_near_nothing_is_raised(scene: Scene) -> None:
    first = slice(0, 1)
    maps = scene.maps(
        counts=[c[first] for c in scene.counts],
        background=[0 * b[first] for b in scene.background],
        counts_per_flux=scene.per_flux[first],
    )
    assert np.isfinite(maps.ts).all()
    assert maps.ts.max() > 100


def test_a_photon_where_none_is_expected_spoils_only_its_surroundings(scene: Scene) -> None:
    holed = [b.copy() for b in scene.background]
    counts = [c.copy() for c in scene.counts]
    holed[3][0, 100:104, 20:24] = 0.0
    counts[3][0, 102, 22] = 1.0
    maps, before = scene.maps(counts=counts, background=holed), scene.maps()
    assert maps.ts[0, 102, 22] > before.ts[0, 102, 22]
    far = np.s_[0, :50, 70:]
    np.testing.assert_allclose(maps.ts[far], before.ts[far], atol=0.05, rtol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"counts": s.counts[:2]}, "2 channels of counts, kernels of"),
        (lambda s: {"background": s.background[::-1]}, "give both for the same patches"),
        (lambda s: {"counts_per_flux": s.per_flux[:1]}, r"counts_per_flux \(1, 3, 4\) instead of"),
        (lambda s: {"counts": [-c for c in s.counts]}, "channel 0: counts are negative"),
        (lambda s: {"counts": [c * np.nan for c in s.counts]}, "negative or not finite"),
        (lambda s: {"background": [c * np.inf for c in s.background]}, "background is not finite"),
        (lambda s: {"kernels": s.fine[:0]}, "make kernels of the same channels"),
        (
            lambda s: {
                "counts": [c[:, :, :3] for c in s.counts],
                "background": [b[:, :, :3] for b in s.background],
            },
            r"images \(2, 32, 3\)",
        ),
    ],
)
def test_bad_input_is_refused(
    scene: Scene, change: Callable[[Scene], dict[str, object]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        scene.maps(**change(scene))


def test_phases_beyond_the_finest_pixels_are_refused(response: Response, scene: Scene) -> None:
    kernels = [make_kernels(response.psf, response.channels, SIZE, i, phases=2) for i in (2, 2, 2)]
    with pytest.raises(InputError, match="channel 2: 2 phases of 128 pixels do not fit 128"):
        scene.maps(kernels=kernels)


def test_ladder_spans_the_expected_ts() -> None:
    per_flux = np.array([[2e11, 1e10], [1e11, 5e10]])
    width = np.array([[60.0, 4.0], [50.0, 4.0]])
    low, high = np.array([10.0, 0.01]), np.array([50.0, 0.2])
    fluxes = flux_ladder(low, high, width, per_flux, 100.0)
    assert (np.diff(np.log(fluxes), axis=1) <= np.log(2) + 1e-9).all()

    def ts(flux: float, t: int, b: Float64) -> float:
        s = flux * per_flux[t] / width[t]
        return float((2 * width[t] * ((s + b) * np.log1p(s / b) - s)).sum())

    for t in range(2):
        top = brentq(lambda f, t=t: ts(f, t, high) - 100, 1e-12, 1e-6)
        assert fluxes[t, -1] == pytest.approx(HEADROOM * top, rel=1e-6)
        assert ts(fluxes[t, 0], t, low) <= 2.0 + 1e-9
    blind = flux_ladder(low, high, width, per_flux * [[1.0], [0.0]], 100.0)
    assert (blind[0] > 0).all()
    assert not blind[1].any()
    # However different the backgrounds, the number of fluxes is bounded.
    assert flux_ladder(low * 1e-6, high * 1e6, width, per_flux, 100.0).shape[1] == 12


def test_best_flux_finds_maxima_between_the_steps() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        background = 10 ** rng.uniform(-3, 1)
        shape = np.exp(-np.arange(100) / rng.uniform(3, 15))
        shape /= shape.sum()
        true = rng.uniform(3, 20) * max(1.0, (background * 20) ** 0.5)
        n = rng.poisson(true * shape + background)

        def gain(flux: float, n: Float64 = n, ratio: Float64 = shape / background) -> float:
            return float(n @ np.log1p(flux * ratio) - flux)

        best = minimize_scalar(
            lambda x: -gain(np.exp(x)), bounds=(-7, 8), method="bounded", options={"xatol": 1e-8}
        )
        fluxes = true / rng.uniform(4, 8) * 2.0 ** np.arange(7)
        where, value = best_flux(fluxes, np.array([gain(f) for f in fluxes]))
        if -best.fun > 2.0 and np.exp(best.x) < fluxes[-2]:
            assert value == pytest.approx(-best.fun, rel=0.015)
            assert where == pytest.approx(np.exp(best.x), rel=0.12)
    assert best_flux(fluxes, -fluxes) == (0.0, 0.0)
    assert best_flux(fluxes, fluxes) == (fluxes[-1], fluxes[-1])


def test_logarithms_and_their_polynomial() -> None:
    values = np.exp(np.random.default_rng(1).uniform(-300, 300, 1000))
    total = np.ones(1000)
    add_logarithm(values, 2.0, total)
    np.testing.assert_allclose(total, 1 + 2 * np.log(values), rtol=0, atol=2e-7)
    u = np.linspace(0, TAIL_LIMIT, 1000)
    tail = sum(a * u ** (j + 1) for j, a in enumerate(TAIL_COEFFICIENTS))
    assert (np.abs(tail - np.log1p(u)) <= 0.00152 * u**2).all()


@pytest.mark.parametrize("margins", [(0, 0), (2, 0), (2, 4)])
def test_enlarging_is_exact_for_cubics(margins: tuple[int, int]) -> None:
    def cubic(n: int, margin: int) -> Float64:
        x = (np.arange(n + 2 * margin) - margin + 0.5) / n
        y, x = np.meshgrid(x, x, indexing="ij")
        return np.stack([1 + x - 2 * y**3, (x - 0.3) ** 3 * y**2, x * y], axis=2)

    fine = np.empty((32 + 2 * margins[1], 32 + 2 * margins[1], 3))
    map_plan.enlarge(cubic(16, margins[0]), margins[0], fine, margins[1])
    np.testing.assert_allclose(fine, cubic(32, margins[1]), atol=1e-12)

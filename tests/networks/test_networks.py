from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geminga.bands import Band
from geminga.config import Config, ImageConfig, MiunConfig
from geminga.networks import Miun, SourceCnn, build_classifier, build_miun, image_channels
from geminga.networks.blocks import anscombe
from geminga.networks.miun import score_maps

THESIS = (32, 32, 64, 128, 128, 128)


def one_band() -> Config:
    band = Band(emin_gev=50, emax_gev=2000, nside=64, pixels=64)
    return Config(
        bands=(band,),
        classes=("AGN",),
        classifier={"rotated_classes": (), "width": 4},
        miun=MiunConfig(width=4, bottleneck_pixels=8, dropout=0.5),
        images=ImageConfig(box_deg=(1.0,), pixels=5),
    )


def miun_case(config: Config, n: int = 2) -> tuple[nn.Module, tuple[Tensor, ...], tuple[int, ...]]:
    images = tuple(torch.poisson(torch.full((n, b.pixels, b.pixels), 0.7)) for b in config.bands)
    return build_miun(config), images, (n, config.top_pixels, config.top_pixels)


def classifier_case(
    config: Config, n: int = 3
) -> tuple[nn.Module, tuple[Tensor, ...], tuple[int, ...]]:
    p = config.images.pixels
    images = torch.poisson(torch.full((n, image_channels(config), p, p), 2.0))
    latitude = torch.linspace(-90, 90, n)
    return build_classifier(config), (images, latitude), (n, len(config.classes) + 1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


CASES = pytest.mark.parametrize("case", [miun_case, classifier_case])
BANDS = pytest.mark.parametrize("which", ["two bands", "one band"])
Case = Callable[[Config], tuple[nn.Module, tuple[Tensor, ...], tuple[int, ...]]]


@pytest.fixture
def config(which: str, config2: Config) -> Config:
    return config2 if which == "two bands" else one_band()


@CASES
@BANDS
def test_shapes_and_types(case: Case, config: Config) -> None:
    model, inputs, shape = case(config)
    for mode in (True, False):
        output = model.train(mode)(*inputs)
        assert output.shape == shape
        assert output.dtype == torch.float32
        assert torch.isfinite(output).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(*inputs).dtype == torch.float32


@CASES
@BANDS
def test_every_parameter_gets_a_gradient(case: Case, config: Config) -> None:
    torch.manual_seed(0)
    model, inputs, _ = case(config)
    output = model.train()(*inputs)
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.count_nonzero(parameter.grad) > 0, name


@CASES
def test_evaluation_is_fixed_and_does_not_mix_the_batch(case: Case, config2: Config) -> None:
    model, inputs, _ = case(config2)
    model.eval()
    whole = model(*inputs)
    assert torch.equal(whole, model(*inputs))
    alone = model(*(tensor[:1] for tensor in inputs))
    assert torch.allclose(whole[:1], alone, atol=1e-5)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()(*inputs)
    assert any(not torch.equal(before[name], b) for name, b in model.named_buffers())


@CASES
def test_starting_weights_depend_on_the_seed_alone(case: Case, config2: Config) -> None:
    torch.manual_seed(1)
    first = case(config2)[0].state_dict()
    torch.manual_seed(2)
    second = case(config2)[0].state_dict()
    other = case(config2.model_copy(update={"seed": 5}))[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@CASES
def test_building_leaves_the_random_state_alone(case: Case, config2: Config) -> None:
    build = build_miun if case is miun_case else build_classifier
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    build(config2)
    assert torch.equal(torch.rand(3), expected)


def test_the_thesis_network_has_its_levels() -> None:
    model = Miun(THESIS, 4, 16)
    assert model.bands_of_level == [[3, 4, 5], [2], [0, 1]]
    images = [torch.ones(1, n, n) for n in THESIS]
    seen: list[tuple[int, ...]] = []
    model.bottom.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    assert model(*images).shape == (1, 128, 128)
    assert seen == [(1, 32, 16, 16)]


def test_levels_without_bands() -> None:
    model = Miun((16, 128), 2, 8)
    assert model.bands_of_level == [[1], [], [], [0]]
    assert model(torch.ones(1, 16, 16), torch.ones(1, 128, 128)).shape == (1, 128, 128)


@pytest.mark.parametrize("pixels", [(32, 48), (16, 64), (8, 64)])
def test_sizes_that_fit_no_level_are_refused(pixels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit levels"):
        Miun(pixels, 2, 16)


def test_images_of_other_sizes_are_refused(config2: Config) -> None:
    model = build_miun(config2)
    with pytest.raises(ValueError, match=r"\(64, 32\) pixels"):
        model(torch.ones(1, 64, 64), torch.ones(1, 32, 32))
    with pytest.raises(ValueError, match=r"\(32,\) pixels"):
        model(torch.ones(1, 32, 32))
    cnn = SourceCnn(3, 7, 2, 4, (8,))
    with pytest.raises(ValueError, match=r"\(4, 7, 7\)"):
        cnn(torch.ones(1, 4, 7, 7), torch.zeros(1))


def test_the_classifier_has_five_dense_layers_and_sees_latitude(config2: Config) -> None:
    model = build_classifier(config2).eval()
    assert sum(isinstance(m, nn.Linear) for m in model.modules()) == 5
    images = torch.ones(2, image_channels(config2), 7, 7)
    low, high = model(images, torch.tensor([0.0, 80.0]))
    assert not torch.equal(low, high)


def test_anscombe_steadies_the_noise() -> None:
    torch.manual_seed(0)
    for mean in (5.0, 50.0):
        noise = anscombe(torch.poisson(torch.full((20000,), mean))).std()
        assert float(noise) == pytest.approx(1.0, abs=0.05)


def test_input_scaling_changes_the_result(config2: Config) -> None:
    plain, images, _ = miun_case(config2)
    scaled = build_miun(
        config2.model_copy(
            update={"miun": config2.miun.model_copy(update={"input_scaling": "anscombe"})}
        )
    )
    scaled.load_state_dict(plain.state_dict())
    assert not torch.equal(plain.train()(*images), scaled.train()(*images))


def test_score_maps_do_not_depend_on_company(config2: Config) -> None:
    model, tensors, _ = miun_case(config2, 7)
    assert isinstance(model, Miun)
    images = [tensor.numpy().astype(np.uint32) for tensor in tensors]
    maps = score_maps(model, images, 3)
    assert maps.shape == (7, 64, 64)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert model.training
    backwards = score_maps(model, [image[::-1] for image in images], 3)[::-1]
    assert maps.tobytes() == backwards.tobytes()
    assert len(score_maps(model, [image[:0] for image in images], 3)) == 0
    low = score_maps(model, images, 3, "bfloat16")
    assert np.abs(low - maps).max() < 0.05

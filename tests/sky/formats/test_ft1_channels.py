"""Event lists: classes, event types and zenith angles, channel by channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ft1_files import N, bits, event_columns, observed, write_events
from sky_configs import typed

from geminga.config import Config
from geminga.errors import InputError
from geminga.sky.formats.event_bits import bit_is_set
from geminga.sky.formats.ft1 import read_events


@pytest.mark.parametrize("form", ["32X", "32L", "J", "4B"])
def test_class_bits_in_every_storage(tmp_path: Path, ft1_config: Config, form: str):
    columns = event_columns()
    for name in ("EVENT_CLASS", "EVENT_TYPE"):
        values = columns[name][1]
        packed = np.packbits(values, axis=1)
        stored = {
            "32X": values,
            "32L": values,
            "4B": packed,
            "J": packed.view(">u4").ravel().astype(np.int32),
        }
        columns[name] = (form, stored[form])
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(event_class_bits=(7,)), ft1_config)) == N
    assert len(read_events([path], observed(event_class_bits=(7, 10)), ft1_config)) == N // 4
    assert len(read_events([path], observed(), typed(ft1_config, "FRONT"))) == N // 2
    assert len(read_events([path], observed(), typed(ft1_config, "FRONT", "BACK"))) == N
    some = read_events([path], observed(event_class_bits=(10,)), typed(ft1_config, "BACK"))
    assert len(some) == 0


def test_bit_zero_is_the_last_element():
    values = np.zeros((1, 32), dtype=bool)
    values[0, 31] = True
    assert bit_is_set(values, 0, "x")[0]
    assert not bit_is_set(values, 31, "x")[0]
    assert bit_is_set(np.array([-(2**31)], dtype=np.int32), 31, "x")[0]


@pytest.mark.parametrize("bit", [-1, 32])
def test_a_bit_the_column_has_not_is_refused(bit: int):
    with pytest.raises(InputError, match=f"has no bit {bit}"):
        bit_is_set(np.zeros((1, 32), dtype=bool), bit, "x")


def test_a_column_of_numbers_is_not_bits():
    with pytest.raises(InputError, match="not bits"):
        bit_is_set(np.zeros(3), 0, "x")


def test_zenith_cut_looser_in_the_file_is_applied(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(max_zenith_deg=52.0), ft1_config)
    assert len(photons) == np.sum(event_columns()["ZENITH_ANGLE"][1] <= 52.0)


def test_zenith_cut_tighter_in_the_file_is_logged(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
):
    path = write_events(tmp_path / "a.fits")
    read_events([path], observed(max_zenith_deg=110.0), ft1_config)
    assert "zenith angle 105 deg, below the 110 deg asked for" in caplog.text


def test_the_zenith_column_is_not_needed_when_the_file_was_cut(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    del columns["ZENITH_ANGLE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(max_zenith_deg=105.0), ft1_config)) == N
    with pytest.raises(InputError, match="no column ZENITH_ANGLE"):
        read_events([path], observed(max_zenith_deg=100.0), ft1_config)


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (("FRONT", "BACK"), {0: N // 4, 1: N // 4, 2: N // 4, 3: N // 4}),
        (("BACK",), {0: N // 2}),
        (("PSF1+PSF3", "PSF0"), {0: N // 2, 3: N // 4}),
        (("PSF0+PSF1+PSF2+PSF3",), {0: N // 2, 1: N // 2}),
    ],
)
def test_each_event_goes_to_the_channel_of_its_type(
    tmp_path: Path, ft1_config: Config, entries: tuple[str, ...], wanted: dict[int, int]
):
    columns = event_columns()
    number = np.arange(N)
    if entries[0].startswith("FRONT"):
        # Energies that do not go with the type, so that all four channels are filled.
        columns["ENERGY"] = ("E", np.where(number // 2 % 2, 2000.0, 20000.0))
    photons = read_events(
        [write_events(tmp_path / "a.fits", columns)], observed(), typed(ft1_config, *entries)
    )
    if entries == ("BACK",):
        # Odd events are BACK and have 2 GeV.
        assert (photons.channel == 0).all()
    found = dict(zip(*np.unique(photons.channel, return_counts=True), strict=True))
    assert found == wanted
    assert photons.origin["event_types"] == ", ".join(entries)


def test_conversion_type_stands_in_for_front_and_back(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    del columns["EVENT_TYPE"]
    columns["CONVERSION_TYPE"] = ("I", np.arange(N) % 2)
    path = write_events(tmp_path / "a.fits", columns)
    both = read_events([path], observed(), typed(ft1_config, "BACK", "FRONT"))
    np.testing.assert_array_equal(np.bincount(both.channel), [N // 2, 0, 0, N // 2])
    with pytest.raises(InputError, match="table EVENTS has no column EVENT_TYPE"):
        read_events([path], observed(), typed(ft1_config, "PSF3"))
    columns["CONVERSION_TYPE"][1][7] = 2
    odd = write_events(tmp_path / "b.fits", columns)
    with pytest.raises(InputError, match=r"CONVERSION_TYPE of 1 events .* names 0 of the event"):
        read_events([odd], observed(), typed(ft1_config, "BACK"))


def test_all_events_need_no_event_types(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    del columns["EVENT_TYPE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(), ft1_config)) == N
    with pytest.raises(InputError, match="table EVENTS has no column EVENT_TYPE"):
        read_events([path], observed(), typed(ft1_config, "FRONT"))


@pytest.mark.parametrize(
    ("row", "entry", "message"),
    [
        (bits(), "FRONT", r"EVENT_TYPE of 1 events .* names 0 of the .* one of bits \[0, 1\]"),
        (bits(0, 1), "BACK", r"EVENT_TYPE of 1 events .* names 2 of the event types"),
        (bits(0, 9), "PSF3", r"names 0 of the .* one of bits \[2, 3, 4, 5\]"),
        (bits(31), "FRONT", r"EVENT_TYPE of 1 events .*energy 20000.*names 0"),
    ],
)
def test_events_of_no_type_or_two_are_refused(
    tmp_path: Path, ft1_config: Config, row: np.ndarray, entry: str, message: str
):
    columns = event_columns()
    columns["EVENT_TYPE"][1][4] = row
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match=message):
        read_events([path], observed(), typed(ft1_config, entry))


@pytest.mark.parametrize(
    "entries", [("FRONT", "FRONT+BACK"), ("FRONT", "PSF2"), ("BACK", "BACK"), ("PSF0+PSF0",)]
)
def test_selections_that_share_events_are_refused(
    tmp_path: Path, ft1_config: Config, entries: tuple[str, ...]
):
    path = write_events(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"response\.event_types: .* count events twice"):
        read_events([path], observed(), typed(ft1_config, *entries))


def test_an_unknown_event_type_is_named(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits")
    with pytest.raises(InputError, match="unknown event type 'PSF4'; choose from FRONT, BACK"):
        read_events([path], observed(), typed(ft1_config, "PSF4"))


def with_zenith(config: Config, *limits: float) -> Config:
    tree = config.model_dump()
    for band, limit in zip(tree["bands"], limits, strict=True):
        band["max_zenith_deg"] = limit
    return Config.model_validate(tree)


def test_each_band_has_its_zenith_cut(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits")
    columns = event_columns()
    zenith, low = columns["ZENITH_ANGLE"][1], columns["ENERGY"][1] < 3000.0
    photons = read_events([path], observed(), with_zenith(ft1_config, 30.0, 90.0))
    wanted = [np.sum(zenith[low] <= 30.0), np.sum(zenith[~low] <= 90.0)]
    np.testing.assert_array_equal(np.bincount(photons.channel), wanted)
    lower = read_events([path], observed(max_zenith_deg=60.0), with_zenith(ft1_config, 30.0, 90.0))
    np.testing.assert_array_equal(
        np.bincount(lower.channel), [wanted[0], np.sum(zenith[~low] <= 60.0)]
    )


def test_a_list_without_zenith_angles_is_taken_as_cut(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
):
    columns = event_columns()
    del columns["ZENITH_ANGLE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(), with_zenith(ft1_config, 90.0, 105.0))) == N
    assert "no column ZENITH_ANGLE: its events are taken to be cut" in caplog.text
    assert "90 deg at the least" in caplog.text


def test_events_without_a_zenith_angle_are_refused(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    columns["ZENITH_ANGLE"][1][3:5] = np.nan
    path = write_events(tmp_path / "a.fits", columns)
    for asked in (observed(), observed(max_zenith_deg=60.0)):
        with pytest.raises(
            InputError, match=r"2 events have no zenith angle \(ZENITH_ANGLE is nan"
        ):
            read_events([path], asked, with_zenith(ft1_config, 90.0, 105.0))

"""Labelled source images of one sky in a file."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from geminga import storage
from geminga.arrays import Bool, Float64, Int64
from geminga.classification.images import SourceImages
from geminga.classification.samples import SourceSamples
from geminga.errors import InputError
from geminga.files import REMAKE, atomic


def save_samples(
    path: Path, images: SourceImages, labels: Int64, expected: Bool, scores: Float64, sky_id: int
) -> None:
    """Write images of the n detections of a sky, with their classes and scores.

    Parameters
    ----------
    path : Path
        File to write.
    images : SourceImages
        Of n detections.
    labels : Int64 (n,)
        Index into ``with_fake(classes)``.
    expected : Bool (n,)
        The images are expected counts, not photons.
    scores : Float64 (n,)
        Strength of each detection.
    sky_id : int
        Sky of the detections.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            channels=images.channels,
            yearly=images.yearly,
            lat_deg=images.lat_deg,
            labels=labels,
            expected=expected,
            scores=scores,
            sky_id=np.array(sky_id),
        )


def load_samples(path: Path) -> tuple[SourceSamples, Float64]:
    """Read what `save_samples` wrote: the samples and their detections' scores (n,).

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        # Opened here, for numpy does not close a damaged archive.
        with storage.here(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            images = SourceImages(stored["channels"], stored["yearly"], stored["lat_deg"])
            samples = SourceSamples.of_sky(images, stored["labels"], int(stored["sky_id"]))
            return replace(samples, expected=stored["expected"]), stored["scores"]
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        # EOFError: an empty file; TypeError: one array instead of an archive of them.
        raise InputError(
            str(path), f"holds no source images ({error})", f"make the images anew: {REMAKE}"
        ) from error

"""Workers that make the source images the classifier is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geminga.classification.images import counted_source_images, expected_source_images
from geminga.classification.labels import label_candidates
from geminga.classification.store import load_samples, save_samples
from geminga.distributed.simulate import StoredSkies
from geminga.distributed.work import Piece
from geminga.evaluation.extended import masked
from geminga.files import is_whole, read_parquet
from geminga.sky.labelled import labelled
from geminga.sky.observe import draw_photons


def image_file(folder: Path, sky_id: int) -> Path:
    """Return where the source images of a sky are kept."""
    return folder / f"images_{sky_id:07d}.npz"


class ImageWriter:
    """Makes labelled source images at the detections of a simulated sky.

    A true source's images are expected counts, drawn anew whenever they are shown. A false
    detection's images are the photons it was found in: the fluctuation that made it is what it is.
    """

    def __init__(self, config_json: str, diffuse_path: str, skies: str, folder: str) -> None:
        self.skies = StoredSkies(config_json, diffuse_path, skies)
        self.folder = Path(folder)

    def __call__(self, piece: Piece) -> Piece:
        """Make the images of the candidates in file ``candidates`` of sky ``sky_id``."""
        config, sky_id = self.skies.config, int(piece["sky_id"])
        target = image_file(self.folder, sky_id)
        if not is_whole(target, load_samples):
            sky = self.skies.load(sky_id)
            candidates = read_parquet(Path(str(piece["candidates"])))
            truth = labelled(sky.sources.table, config.sky)
            radius = config.evaluation.match_radius_deg
            labels = label_candidates(candidates, truth, config.classes, radius)
            # What was found on an extended source is no point source, but no fluctuation either.
            is_true = labels < len(config.classes)
            keep = ~masked(candidates, is_true, sky.extended_sources, radius)
            candidates, labels = candidates[keep], labels[keep]
            lon, lat = candidates["lon_deg"].to_numpy(), candidates["lat_deg"].to_numpy()
            images = expected_source_images(sky, lon, lat, config)
            fake = labels == len(config.classes)
            counted = counted_source_images(
                draw_photons(sky, config.seed), lon[fake], lat[fake], config
            )
            images.channels[fake], images.yearly[fake] = counted.channels, counted.yearly
            scores = candidates["score"].to_numpy(dtype=np.float64)
            save_samples(target, images, labels, ~fake, scores, sky_id)
        samples, _ = load_samples(target)
        return {"sky_id": sky_id, "images": len(samples)}

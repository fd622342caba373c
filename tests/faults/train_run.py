"""A training on its own, to be broken: ``python train_run.py FOLDER`` with a task in it.

The task names a configuration and files of patches; what comes out is ``history.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from geminga.config import Config
from geminga.distributed.session import close_ray, ray_session
from geminga.distributed.train import train_network
from geminga.logs import show_logs


def main(folder: Path) -> None:
    """Train, or go on."""
    show_logs()
    task = json.loads((folder / "task.json").read_text())
    config = Config.model_validate(task["config"])
    train, valid = ([Path(p) for p in task[name]] for name in ("train", "valid"))
    try:
        with ray_session(2):
            state = train_network("miun", config, train, valid, folder / "checkpoints")
    finally:
        close_ray()
    save_file(
        {name: tensor.clone() for name, tensor in state.model.items()}, folder / "model.safetensors"
    )
    (folder / "history.json").write_text(json.dumps(state.history))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Import every module of an installed wheel, and see that its data files came along."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from pathlib import Path


def main(repository: Path, source: Path) -> None:
    """Check the `geminga` that is importable here against the source it was built from."""
    import geminga

    installed = Path(geminga.__file__).parent
    if installed.is_relative_to(repository) or installed.is_relative_to(source):
        raise SystemExit(f"geminga was imported from {installed}, not from the wheel")
    names = [m.name for m in pkgutil.walk_packages(geminga.__path__, "geminga.")]
    modules = [name for name in names if not name.endswith("__main__")]  # that one runs
    for name in modules:
        importlib.import_module(name)
    package = source / "platform" / "geminga"
    wanted = {p.relative_to(package) for p in package.rglob("*") if p.is_file()}
    missing = sorted(str(p) for p in wanted if not (installed / p).is_file())
    if missing:
        raise SystemExit(f"the wheel lacks {missing}; see [tool.setuptools.package-data]")
    print(f"geminga {geminga.__version__}: {len(modules)} modules, {len(wanted)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())

"""Remove what installed packages carry and nothing here uses: their own tests, headers, sources.

The first argument is the folder that packages are installed in. What numpy calls tests stays: its
``numpy.testing``, which scipy imports, needs them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TESTED = ("matplotlib", "mpl_toolkits", "pandas", "pyarrow", "scipy", "sklearn")
"""Packages whose folders named ``tests`` go."""

UNUSED = (
    "onnx/backend/test",
    "onnxruntime/capi/libonnxruntime.so*",  # for programs in C++; Python has its own copy
    "onnxruntime/transformers",
    "pyarrow/_flight*.so",  # Arrow's own protocol, 30 MB
    "pyarrow/include",
    "pyarrow/libarrow_flight.so*",
    "pyarrow/libarrow_python_flight.so*",
    "pyarrow/src",
)
SUFFIXES = (".a", ".c", ".cpp", ".h", ".hpp", ".js.map", ".pxd", ".pyi", ".pyx")


def trim(packages: Path) -> int:
    """Remove it, and return how many bytes that was."""
    tests = [path for name in TESTED for path in packages.glob(f"{name}/**/tests") if path.is_dir()]
    unused = [path for pattern in UNUSED for path in packages.glob(pattern)]
    before = _size(packages)
    for path in [*tests, *unused]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    for path in packages.rglob("*"):
        if path.is_file() and path.name.endswith(SUFFIXES):
            path.unlink()
    return before - _size(packages)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    print(f"removed {trim(Path(sys.argv[1])) / 1e6:.0f} MB")

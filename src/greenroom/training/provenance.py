"""What a training ran with: its code, file by file, and its environment.

Recorded in every run and in every version, so that ``greenroom reproduce`` can say which file or
which package differs. The data's fingerprint is :mod:`greenroom.training.dataset`'s.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

import greenroom
from greenroom.data.fingerprint import combined_digest, tree_digests
from greenroom.versions.manifest import Code, Environment

RECORDED_PACKAGES: Final = (
    "catboost",
    "cloudpickle",
    "joblib",
    "lightgbm",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "xgboost",
)
"""Packages whose version can change what a training gives, or whether its result loads."""

COMMIT_VARIABLE: Final = "GREENROOM_GIT_COMMIT"
"""Where an image says which commit it was built from."""

_CODE: Final = ("*.py",)
_LOADING: Final = frozenset(
    {"catboost", "cloudpickle", "lightgbm", "mlflow", "numpy", "pandas", "scikit-learn", "xgboost"}
)


def record_code(folder: Path) -> Code:
    """Digest the app's sources (its tests left out) and Greenroom's own.

    The git commit is that of the app's folder; where there is none, as in containers, it is the one
    that the image was built from (:data:`COMMIT_VARIABLE`).
    """
    files = {
        f"app/{path}": digest
        for path, digest in tree_digests(folder, _CODE).items()
        if not path.startswith("tests/")
    }
    package = Path(greenroom.__file__).parent
    files |= {f"greenroom/{path}": digest for path, digest in tree_digests(package, _CODE).items()}
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = bool(commit and _git(folder, "status", "--porcelain", "--", "."))
    return Code(
        code_hash=combined_digest(files),
        files=files,
        git_commit=commit or os.environ.get(COMMIT_VARIABLE, ""),
        git_dirty=dirty,
    )


def record_environment() -> Environment:
    """Record package versions, the processor, and the numeric kernels with their threads.

    OpenBLAS and its like choose a kernel by the processor; another one can change the last bits
    of fitted coefficients, and so can another number of threads.
    """
    # Loaded first, so that their kernels can be asked, whatever has been imported before.
    import scipy.linalg
    import sklearn.utils
    import threadpoolctl

    del scipy, sklearn
    pools = threadpoolctl.threadpool_info()
    kernels = sorted(
        {
            " ".join(
                str(pool[key])
                for key in ("internal_api", "version", "architecture")
                if pool.get(key)
            )
            for pool in pools
        }
    )
    return Environment(
        python=platform.python_version(),
        packages=installed_packages(),
        machine=platform.machine(),
        cpu=_processor(),
        n_threads=max((int(pool["num_threads"]) for pool in pools), default=1),
        blas=tuple(kernels),
    )


def installed_packages() -> dict[str, str]:
    """Return the versions of :data:`RECORDED_PACKAGES`, as far as they are installed."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def loading_requirements(estimator: object) -> list[str]:
    """Return what loading ``estimator`` needs, as pip reads it: a fixed list, cheap to make."""
    roots = _module_roots(estimator)
    optional = {"catboost", "lightgbm", "xgboost"}
    return [
        f"{name}=={version}"
        for name, version in installed_packages().items()
        if name in _LOADING and (name not in optional or name in roots)
    ]


def _module_roots(estimator: object, depth: int = 4) -> set[str]:
    """Top-level packages of an estimator and of those it is made of."""
    roots = {type(estimator).__module__.partition(".")[0]}
    if depth and hasattr(estimator, "get_params"):
        for value in estimator.get_params(deep=False).values():
            for part in value if isinstance(value, list | tuple) else [value]:
                nested = part[1] if isinstance(part, tuple) and len(part) > 1 else part
                if hasattr(nested, "get_params"):
                    roots |= _module_roots(nested, depth - 1)
    return roots


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(folder: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git, by name
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""

"""The versions that a result was made with."""

import importlib.metadata
import platform

# Packages whose version can change a number.
_PACKAGES = (
    "h5py",
    "numba",
    "numpy",
    "scikit-learn",
    "scipy",
    "torch",
    "transformer-lens",
    "transformers",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

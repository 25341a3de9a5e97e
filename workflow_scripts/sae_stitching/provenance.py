"""Where a result comes from: the code that made it and the versions it ran on."""

import ast
import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent

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


@cache
def code_hash(script: Path) -> str:
    """SHA-256 of a script and of all modules of this package that it imports, however deep.

    What is hashed is the syntax tree without docstrings, so that a result does not go stale
    over a comment, and does over any change that can alter it.
    """
    digest = hashlib.sha256()
    for path in sorted(_closure(script), key=lambda path: (path.parent.name, path.name)):
        digest.update(path.name.encode())
        digest.update(_syntax(path).encode())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _closure(script: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return found


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    modules = set()
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            # "from sae_stitching.figures import style" may name a module or something in it.
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    paths = []
    for module in modules:
        parts = module.split(".")
        if parts[0] == PACKAGE.name:
            base = PACKAGE.joinpath(*parts[1:])
            # Importing a module runs the packages above it first.
            above = [
                PACKAGE.joinpath(*parts[1:n]) / "__init__.py" for n in range(1, len(parts) + 1)
            ]
            paths += [p for p in (base.with_suffix(".py"), *above) if p.is_file()]
        elif len(parts) == 1 and (beside := path.with_name(f"{module}.py")).is_file():
            paths.append(beside)
    return tuple(paths)


@cache
def _syntax(path: Path) -> str:
    tree = _parse(path)
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))

"""Files of other libraries that hold SAEs: which formats there are, and how to find their files.

Importing this is quick: what reads and writes the files, in the modules of this package, needs
torch.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sae_stitching.errors import StudyError

#: File of settings, if there is one, and file of weights of each format.
FILES: dict[str, tuple[str | None, str]] = {
    "saelens": ("cfg.json", "sae_weights.safetensors"),
    "gemma-scope": (None, "params.npz"),
    "dictionary-learning": ("config.json", "ae.pt"),
    "sparsify": ("cfg.json", "sae.safetensors"),
}
_SUFFIXES = {PurePosixPath(weights).suffix for _, weights in FILES.values()}


@dataclass(frozen=True)
class Layout:
    """The files of one SAE.

    Attributes
    ----------
    format
        A key of `FILES`.
    weights, settings
        Paths; not every format has settings.
    """

    format: str
    weights: str
    settings: str | None


def find(path: str, format: str, exists: Callable[[str], bool]) -> Layout:
    """Tell which files below `path` hold an SAE, and in which format.

    Parameters
    ----------
    path
        Folder, or file of weights with its settings beside it.
    format
        A key of `FILES`, or ``"auto"`` for the one whose files are there.
    exists
        Whether there is a file of this path: on a disk, or in a repository.

    Raises
    ------
    StudyError
        If the files of no format are there, or those of several.
    """
    given = PurePosixPath(path)
    names = list(FILES) if format == "auto" else [format]
    is_file = given.suffix in _SUFFIXES
    folder = given.parent if is_file else given
    if is_file:
        # By its usual name or else, since any name will do, by its suffix.
        usual = [name for name in names if FILES[name][1] == given.name]
        names = usual or [
            name for name in names if PurePosixPath(FILES[name][1]).suffix == given.suffix
        ]
    layouts = []
    for name in names:
        settings, weights = FILES[name]
        weights = str(folder / (given.name if is_file else weights))
        if exists(weights):
            layouts.append(Layout(name, weights, settings and str(folder / settings)))
    if not layouts:
        choices = [weights for name, (_, weights) in FILES.items() if format in ("auto", name)]
        raise StudyError(f"{path}: there is no {' or '.join(choices)}; name the folder of an SAE")
    if len(layouts) > 1:
        which = " and ".join(layout.format for layout in layouts)
        raise StudyError(f"{path}: may be {which}; name the format")
    (layout,) = layouts
    if layout.settings is not None and not exists(layout.settings):
        raise StudyError(
            f"{layout.settings}: no such file, but {layout.format} has it beside "
            f"{PurePosixPath(layout.weights).name}; get it too"
        )
    return layout


def find_local(path: str, format: str = "auto") -> Layout:
    """`find` on this machine's disks."""
    return find(Path(path).as_posix(), format, os.path.isfile)

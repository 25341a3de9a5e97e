"""Files of other libraries that hold SAEs: which formats there are, and how to find their files.

Importing this is quick: what reads and writes the files, in the modules of this package, needs
torch.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import recognise

#: File of settings, if there is one, and file of weights of each format.
FILES: dict[str, tuple[str | None, str]] = {
    "saelens": ("cfg.json", "sae_weights.safetensors"),
    "gemma-scope": (None, "params.npz"),
    "dictionary-learning": ("config.json", "ae.pt"),
    "sparsify": ("cfg.json", "sae.safetensors"),
}
# Files of other libraries, by which a folder of theirs is known.
_OTHERS = {
    "hyperparams.json": "of Llama Scope",
    "conf.yaml": "of a temporal SAE",
    "model.safetensors.index.json": "a file in several parts",
    "sae_weights.safetensors.index.json": "a file in several parts",
    "params.safetensors": "of Gemma Scope 2",
}
_UNREAD = f", which is not read; name an SAE of {', '.join(FILES)}"
# Kinds of files that weights may be of.
_KINDS = {
    ".safetensors": {recognise.SAFETENSORS},
    ".npz": {recognise.NPZ},
    ".pt": {recognise.PYTORCH, recognise.PICKLE},
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
    registered
        What a registry of published SAEs has in place of what the settings say.
    """

    format: str
    weights: str
    settings: str | None
    registered: Mapping[str, Any] = field(default_factory=dict)


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
    # A folder may have any name.
    is_file = given.suffix in _SUFFIXES and exists(str(given))
    folder = given.parent if is_file else given
    if is_file and given.name in _OTHERS:
        raise StudyError(f"{path}: is {_OTHERS[given.name]}{_UNREAD}")
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
        for name, what in _OTHERS.items():
            if exists(str(folder / name)):
                raise StudyError(f"{path}: holds {name}, {what}{_UNREAD}")
        choices = [weights for name, (_, weights) in FILES.items() if format in ("auto", name)]
        raise StudyError(f"{path}: there is no {' or '.join(choices)}; name the folder of an SAE")
    if len(layouts) > 1 and is_file:
        raise StudyError(f"{path}: its name does not tell whose format it is; name the format")
    if len(layouts) > 1:
        which = " and ".join(layout.format for layout in layouts)
        raise StudyError(f"{path}: may be {which}; name the format")
    (layout,) = layouts
    if layout.settings is not None and not exists(layout.settings):
        name, settings = PurePosixPath(layout.weights).name, PurePosixPath(layout.settings).name
        if name != FILES[layout.format][1]:
            raise StudyError(
                f"{layout.weights}: is read only as a file of {layout.format}, which has "
                f"{settings} beside it, and that is not there"
            )
        if layout.format == "saelens" and exists(str(folder / "config.json")):
            raise StudyError(
                f"{path}: holds config.json and {name}, of Language-Model-SAEs (Llama Scope "
                f"R1-Distill){_UNREAD}"
            )
        raise StudyError(
            f"{layout.settings}: no such file, but {layout.format} has it beside {name}; get it too"
        )
    return layout


def find_local(path: str, format: str = "auto") -> Layout:
    """`find` on this machine's disks, where a file of any name tells by its tensors what it is."""
    given = Path(path)
    usual = {weights for _, weights in FILES.values()}
    if given.is_file() and given.name not in usual:
        if what := _foreign(given):
            raise StudyError(f"{path}: is {what}")
        if given.suffix not in _SUFFIXES:
            raise StudyError(
                f"{path}: is no {_or(sorted(_SUFFIXES))} file; name the folder of an SAE, or its "
                "file of weights"
            )
        if format == "auto" and given.suffix == ".safetensors":
            names = recognise.tensors(given)
            format = "saelens" if "W_enc" in names else "sparsify" if "W_dec" in names else format
    try:
        return find(given.as_posix(), format, os.path.isfile)
    except StudyError:
        known = any((given / name).is_file() for name in usual)
        if given.is_dir() and not known and (better := _beside(given)):
            raise StudyError(f"{path}: {better}") from None
        raise


def not_ours(layout: Layout) -> str:
    """Which file of an SAE that could not be read is something else, and what; or nothing."""
    for path, kinds in ((layout.settings, {"JSON"}), (layout.weights, _kinds_of(layout))):
        if path is not None and Path(path).is_file() and (what := _foreign(Path(path), kinds)):
            return f"{path}: is {what}"
    return ""


def _kinds_of(layout: Layout) -> set[str]:
    return _KINDS[PurePosixPath(FILES[layout.format][1]).suffix]


def _foreign(path: Path, kinds: Collection[str] = recognise.CONTAINERS) -> str:
    what = recognise.foreign(path, {*kinds, ""})
    return f"{what}{'' if '; ' in what else _UNREAD}" if what else ""


def _beside(folder: Path) -> str:
    """What a folder holds in place of an SAE that is read, or the folders in it that do."""
    usual = [weights for _, weights in FILES.values()]
    for file in sorted(folder.iterdir()):
        whole = file.suffix in (*_SUFFIXES, ".pth", ".gz", ".zip", ".tar") and file.is_file()
        if whole and (what := _foreign(file)):
            return f"holds {file.name}, which is {what}"
    inner = [
        sub.name
        for sub in sorted(folder.iterdir())
        if any((sub / name).is_file() for name in usual)
    ]
    return f"holds SAEs in folders of their own, such as {inner[0]}; name one" if inner else ""


def _or(choices: list[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"

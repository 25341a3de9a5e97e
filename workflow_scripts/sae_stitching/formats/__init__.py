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


@dataclass(frozen=True)
class Files:
    """What a format calls the files of an SAE, relative to the folder that names it.

    Attributes
    ----------
    weights
        A pattern where a folder holds files of many SAEs, so that the file itself names one.
    settings
        None where a format has none; ``{stem}`` is the name of the weights without suffix.
    optional
        Whether an SAE may lack its settings.
    run
        Settings of the training that made the SAE, in the first folder above that has them.
    """

    weights: str
    settings: str | None = None
    optional: bool = False
    run: tuple[str, ...] = ()

    @property
    def many(self) -> bool:
        """Whether a folder holds files of many SAEs."""
        return "*" in self.weights

    @property
    def suffix(self) -> str:
        """Of the weights."""
        return PurePosixPath(self.weights).suffix

    def named(self, path: PurePosixPath) -> bool:
        """Whether a file is called as its weights are."""
        return _pt(path).match(self.weights)


#: Files of each format.
FILES = {
    "saelens": Files("sae_weights.safetensors", "cfg.json"),
    "gemma-scope": Files("params.npz"),
    "dictionary-learning": Files("ae.pt", "config.json"),
    "sparsify": Files("sae.safetensors", "cfg.json", run=("../config.json", "../../config.json")),
    "gemma-scope-2": Files("params.safetensors", "config.json", optional=True),
    "qwen-scope": Files("layer*.sae.pt"),
    "llama-scope": Files("checkpoints/final.safetensors", "hyperparams.json"),
    "llama-scope-r1-distill": Files("sae_weights.safetensors", "config.json"),
    "connor-rob": Files("*.pt", "{stem}_cfg.json"),
    "goodfire": Files("Llama-*-SAE-l*.pt"),
    "deepseek-r1": Files("DeepSeek-R1-Distill-*-SAE-l*.pt"),
    "openai": Files("autoencoders/*.pt"),
    "apollo": Files("*.pt", "final_config.yaml"),
}
# Files of other libraries, by which a folder of theirs is known.
_OTHERS = {
    "conf.yaml": "of a temporal SAE",
    "wandb-config.yaml": "of circuit-tracer's transcoders",
    "W_enc_0.safetensors": "a layer of a cross-layer transcoder",
    "model.safetensors.index.json": "a file in several parts",
    "sae_weights.safetensors.index.json": "a file in several parts",
}
_UNREAD = f", which is not read; name an SAE of {', '.join(FILES)}"
# Kinds of files that weights may be of.
_KINDS = {
    ".safetensors": {recognise.SAFETENSORS},
    ".npz": {recognise.NPZ},
    ".pt": {recognise.PYTORCH, recognise.PICKLE},
}
# Names of weights that tell the format; one that fits any file does not.
_USUAL = [files.weights for files in FILES.values() if not files.many]


@dataclass(frozen=True)
class Layout:
    """The files of one SAE.

    Attributes
    ----------
    format
        A key of `FILES`.
    weights, settings, run
        Paths; not every format has settings, or those of the training apart from them.
    registered
        What a registry of published SAEs has in place of what the settings say.
    """

    format: str
    weights: str
    settings: str | None
    run: str | None = None
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
    if _pt(given).suffix in _KINDS and exists(str(given)):
        return _find_file(given, names, exists)
    layouts = _in_folder(given, names, exists)
    if not layouts:
        raise StudyError(f"{path}: {_nothing(given, names, exists)}")
    # Those of one file of weights are told apart by their settings.
    first: dict[str, str] = {}
    for layout in layouts:
        first.setdefault(layout.weights, layout.format)
    if len(first) > 1:
        which = " and ".join(first.values())
        raise StudyError(f"{path}: may be {which}; name the format")
    return _whole(layouts, exists)


def _find_file(given: PurePosixPath, names: list[str], exists: Callable[[str], bool]) -> Layout:
    """The layout of a file of weights: by its name or else, since any will do, by its settings."""
    if given.name in _OTHERS:
        raise StudyError(f"{given}: is {_OTHERS[given.name]}{_UNREAD}")
    names = [name for name in names if FILES[name].suffix == _pt(given).suffix]
    layouts = [_layout(name, given, exists) for name in names]
    telling = [layout for layout in layouts if not _is_any(layout) and _is_usual(layout)]
    beside = [layout for layout in layouts if layout.settings and exists(layout.settings)]
    if telling:
        return _whole(telling, exists)
    if not beside and len(layouts) == 1:
        return _whole(layouts, exists)
    # A format that calls any file its own goes by its settings.
    beside = [layout for layout in beside if _is_any(layout)] or beside
    if len(beside) != 1:
        raise StudyError(f"{given}: its name does not tell whose format it is; name the format")
    return beside[0]


def _in_folder(
    folder: PurePosixPath, names: list[str], exists: Callable[[str], bool]
) -> list[Layout]:
    found = []
    for name in names:
        files = FILES[name]
        # Where the weights lie deeper, the settings say that they may be there.
        deeper = "/" in files.weights
        if files.many or (deeper and not exists(str(folder / str(files.settings)))):
            continue
        if exists(str(folder / files.weights)):
            found.append(_layout(name, folder / files.weights, exists))
    return found


def _layout(name: str, weights: PurePosixPath, exists: Callable[[str], bool]) -> Layout:
    """Where the files of a format lie, those that an SAE may lack if they are there."""
    files = FILES[name]
    depth = 0 if files.many else files.weights.count("/")
    folder = weights.parents[min(depth, len(weights.parents) - 1)]
    settings = files.settings and str(folder / files.settings.format(stem=weights.stem))
    if settings and files.optional and not exists(settings):
        settings = None
    above = [os.path.normpath(folder / run) for run in files.run]
    runs = [run for run in above if exists(run)]
    return Layout(name, str(weights), settings, runs[0] if runs else None)


def _whole(layouts: list[Layout], exists: Callable[[str], bool]) -> Layout:
    """The first that has its settings; a complaint of the first where none has."""
    for layout in layouts:
        if layout.settings is None or exists(layout.settings):
            return layout
    layout = layouts[0]
    name, settings = PurePosixPath(layout.weights).name, PurePosixPath(str(layout.settings)).name
    if not _is_usual(layout):
        raise StudyError(
            f"{layout.weights}: is read only as a file of {layout.format}, which has {settings} "
            "beside it, and that is not there"
        )
    raise StudyError(
        f"{layout.settings}: no such file, but {layout.format} has it beside {name}; get it too"
    )


def _nothing(folder: PurePosixPath, names: list[str], exists: Callable[[str], bool]) -> str:
    """Why a folder holds no SAE."""
    for name, what in _OTHERS.items():
        if exists(str(folder / name)):
            return f"holds {name}, {what}{_UNREAD}"
    if len(names) == 1 and FILES[names[0]].many:
        return f"is no file of {names[0]}, which has many in a folder; name one"
    choices = dict.fromkeys(FILES[name].weights for name in names if not FILES[name].many)
    return f"there is no {' or '.join(choices)}; name the folder of an SAE, or its file of weights"


def _is_any(layout: Layout) -> bool:
    return FILES[layout.format].weights.startswith("*")


def _is_usual(layout: Layout) -> bool:
    return FILES[layout.format].named(PurePosixPath(layout.weights))


def _pt(path: PurePosixPath) -> PurePosixPath:
    """A path, with PyTorch's other suffix as its usual one."""
    return path.with_suffix(".pt") if path.suffix == ".pth" else path


def find_local(path: str, format: str = "auto") -> Layout:
    """`find` on this machine's disks, where a file of any name tells by its tensors what it is."""
    given = Path(path)
    if given.is_file() and not any(PurePosixPath(given).match(usual) for usual in _USUAL):
        if what := _foreign(given):
            raise StudyError(f"{path}: is {what}")
        if _pt(PurePosixPath(given)).suffix not in _KINDS:
            raise StudyError(
                f"{path}: is no {_or(sorted(_KINDS))} file; name the folder of an SAE, or its "
                "file of weights"
            )
        if format == "auto":
            format = recognise.format_of(given) or format
    try:
        return find(given.as_posix(), format, os.path.isfile)
    except StudyError:
        known = any((given / name).is_file() for name in _USUAL)
        if given.is_dir() and not known and (better := _beside(given)):
            raise StudyError(f"{path}: {better}") from None
        raise


def not_ours(layout: Layout) -> str:
    """Which file of an SAE that could not be read is something else, and what; or nothing."""
    for path, kinds in ((layout.settings, {"JSON"}), (layout.weights, _kinds_of(layout))):
        if path is not None and Path(path).is_file() and (what := _foreign(Path(path), kinds)):
            return f"{path}: is {what}"
    if Path(layout.weights).is_file():
        format = recognise.format_of(Path(layout.weights))
        if format not in ("", layout.format):
            return f"{layout.weights}: is of {format}, not of {layout.format}; name that format"
    return ""


def _kinds_of(layout: Layout) -> set[str]:
    return _KINDS[FILES[layout.format].suffix]


def _foreign(path: Path, kinds: Collection[str] = recognise.CONTAINERS) -> str:
    what = recognise.foreign(path, {*kinds, ""})
    return f"{what}{'' if '; ' in what else _UNREAD}" if what else ""


def _beside(folder: Path) -> str:
    """What a folder holds in place of an SAE that is read, or the folders in it that do."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    for file in files:
        whole = _pt(PurePosixPath(file)).suffix in (*_KINDS, ".gz", ".zip", ".tar")
        if whole and (what := _foreign(file)):
            return f"holds {file.name}, which is {what}"
    for file in files:
        if _pt(PurePosixPath(file)).suffix in _KINDS and (format := recognise.format_of(file)):
            return f"holds files of {format}, such as {file.name}; name one"
    inner = [
        sub.name
        for sub in sorted(folder.iterdir())
        if any((sub / name).is_file() for name in _USUAL)
    ]
    return f"holds SAEs in folders of their own, such as {inner[0]}; name one" if inner else ""


def _or(choices: list[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"

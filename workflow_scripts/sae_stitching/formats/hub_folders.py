"""Models and SAEs of the hub as local folders: links to the files that a study needs of them.

The files themselves lie in the hub's cache alone. A folder of links is what transformers and the
readers of SAEs take for a folder that somebody saved, so that they ask nobody for anything.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sae_stitching import formats
from sae_stitching.base.errors import StudyError
from sae_stitching.hub import client
from sae_stitching.hub.client import Commit, HubFile
from sae_stitching.text.sources import replacing_folder

# Weights of a model as transformers looks for them: the first that is there, in one file or as an
# index of several.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Settings and vocabularies, whatever a tokenizer calls them.
_SMALL = re.compile(r"[^/]+\.(json|txt|model|tiktoken|jinja)")
_NOT_SMALL = re.compile(r".*\.index\.json|requirements.*\.txt|LICEN[CS]E.*|training_args.*")


def fetch_model(commit: Commit, folder: Path) -> None:
    """Fetch config, weights and tokenizer of a model, and write the folder that links to them.

    Of several formats of the weights only one is fetched, and safetensors rather than others.

    Raises
    ------
    StudyError
        If the repository holds no model that transformers reads, or cannot be fetched.
    """
    listed = client.list_files(commit)
    if "config.json" not in listed:
        raise client.lacking(commit, "holds no config.json, so no model of transformers; name one")
    names = {name for name in listed if _SMALL.fullmatch(name) and not _NOT_SMALL.fullmatch(name)}
    fetched: dict[str, Path] = {}
    for name in _weights(commit, listed, fetched):
        names.add(name)
    _link(commit, {name: listed[name] for name in sorted(names)}, folder, fetched)


def _weights(commit: Commit, listed: Mapping[str, HubFile], fetched: dict[str, Path]) -> list[str]:
    """Names of the files of weights, with the index where there is one, which is fetched."""
    for name in _WEIGHTS:
        index = f"{name}.index.json"
        if name in listed:
            return [name]
        if index in listed:
            fetched[index] = client.fetch_file(commit, listed[index])
            try:
                parts = set(json.loads(fetched[index].read_text("utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise StudyError(f"{commit}: {index}: is no index of weights ({error})") from error
            if lacking := sorted(parts - set(listed)):
                raise client.lacking(
                    commit,
                    f"{index}: names {lacking[0]}, which is not there; name another revision",
                )
            return [index, *sorted(parts)]
    raise client.lacking(
        commit,
        f"holds no weights that transformers reads ({', '.join(_WEIGHTS)}, or an index of them); "
        "name another repository",
    )


def fetch_sae(commit: Commit, path: str, format: str, folder: Path) -> None:
    """Fetch the files of one SAE, and write the folder that links to them.

    Parameters
    ----------
    commit
    path
        Folder or file of weights within the repository.
    format
        A key of `formats.FILES`, or ``"auto"`` for the one whose files are there.
    folder
        Where the links end up, below the repository's name and as in the repository: some readers
        learn from a file's path where in the model the SAE belongs.

    Raises
    ------
    StudyError
        If there are no files of an SAE, or they cannot be fetched.
    """
    listed: dict[str, dict[str, HubFile]] = {}

    def exists(name: str) -> bool:
        above = str(PurePosixPath(name).parent)
        if above.startswith(".."):  # of the repository
            return False
        if above not in listed:
            listed[above] = client.list_files(commit, above)
        return name in listed[above]

    try:
        layout = formats.find(path, format, exists)
    except StudyError as error:
        raise client.lacking(commit, str(error)) from error
    parts = (layout.weights, layout.settings, layout.run)
    names = [name for name in parts if name is not None]
    files = {name: listed[str(PurePosixPath(name).parent)][name] for name in names}
    _link(commit, files, folder, {}, below=commit.name)


def _link(
    commit: Commit,
    files: Mapping[str, HubFile],
    folder: Path,
    fetched: Mapping[str, Path],
    below: str = "",
) -> None:
    """Fetch files and write the folder of links to them."""
    found = {
        name: fetched.get(name) or client.fetch_file(commit, file) for name, file in files.items()
    }
    with replacing_folder(folder) as temporary:
        for name, path in found.items():
            link = temporary / below / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())

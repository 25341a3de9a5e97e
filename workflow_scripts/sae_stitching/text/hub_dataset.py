"""A dataset of the hub, whose data files are fetched one by one as they are read.

The datasets library tells which files make up a split, and reads them; it sees a local folder with
the names of the repository's files in it, and never asks the hub itself.
"""

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sae_stitching.base.errors import StudyError
from sae_stitching.hub import client
from sae_stitching.hub.client import Commit
from sae_stitching.text.documents import documents_of_dataset

# What says which files belong to which configuration and split, and what their columns are.
_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")


def hub_documents(commit: Commit, text: Mapping[str, Any]) -> Iterator[str]:
    """Read the documents of a dataset of the hub, fetching its data files as they are read.

    Parameters
    ----------
    commit
        Of the dataset.
    text
        Section `text` of the config, with `dataset` and `max_documents`.

    Raises
    ------
    StudyError
        If the dataset cannot be fetched, or is not what the config says.
    """
    spec = text["dataset"]
    parts = _parts(commit, spec.get("name"), spec["split"])
    documents = documents_of_dataset(parts, spec["column"], str(commit))
    return itertools.islice(documents, text.get("max_documents"))


def _parts(commit: Commit, name: str | None, split: str) -> Iterator[Any]:
    """Yield a streamed dataset for each data file of a split, fetched when its turn comes."""
    import datasets  # slow to import, and needed for this kind of text only
    from datasets.data_files import DataFilesDict, DataFilesList

    datasets.disable_progress_bars()
    listed = client.list_files(commit, recursive=True)
    with tempfile.TemporaryDirectory() as above:
        # The library calls the dataset by the folder's name, and refuses a script of that name.
        folder = Path(above, commit.repo.rpartition("/")[2])
        for path in listed:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

        def fetch(path: str) -> None:
            (folder / path).unlink()
            (folder / path).symlink_to(client.fetch_file(commit, listed[path]).absolute())

        for path in (*_DESCRIPTIONS, *_archives(listed)):
            if path in listed:
                fetch(path)
        try:
            builder = datasets.load_dataset_builder(
                str(folder), name, cache_dir=str(Path(above, ".cache"))
            )
        except Exception as error:  # each kind of file raises its own
            said = " ".join(str(error).split()).replace(str(folder), commit.repo)[:300]
            raise StudyError(
                f"text.dataset: {commit} (name {name!r}) cannot be opened ({said})"
            ) from error
        files = builder.config.data_files or {}
        if split not in files:
            raise StudyError(
                f"text.dataset.split: {commit} has no split {split!r}; it has "
                f"{', '.join(map(str, files)) or 'none'}"
            )
        for place in list(files[split]):
            path = Path(place).relative_to(folder.resolve()).as_posix()
            fetch(path)
            one = DataFilesList([place], [(path,)])
            builder.config.data_files = DataFilesDict({split: one})
            yield builder.as_streaming_dataset(split=split)


def _archives(listed: dict[str, Any]) -> list[str]:
    """Archives that the library looks into, to tell what a dataset's files are."""
    return [path for path in listed if path.endswith(".zip")]

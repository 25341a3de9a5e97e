"""Reading activation shards: in order for evaluation, shuffled for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import h5py
import numpy as np
import torch
from torch import Tensor

from sae_stitching.activations.shard_file import Shard
from sae_stitching.base import arrays
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import open_record
from sae_stitching.base.store import Dataset

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_Item = TypeVar("_Item")

READ_ROWS = 64
"""Rows of one shuffled read, and of a shard's chunks: long enough that a read is sequential, short
enough that a buffer holds tokens of many documents."""

BLOCK_TOKENS = 2048
"""Tokens of a block, about, where they are gone through in order. At the paper's largest size what
is made of a block takes 120 MB, beside the dictionaries."""


@dataclass(frozen=True)
class Block:
    """Consecutive tokens of whole sequences.

    Attributes
    ----------
    start : int
        Position of the first token in the order of the split.
    activations : (token, d_model) float32
    sequence : (token) int64
        Sequence that each token belongs to.
    """

    start: int
    activations: Float[Tensor, "token d_model"]
    sequence: Int[Tensor, " token"]


def create_activations(file: h5py.File, n_tokens: int, d_model: int, dtype: str) -> h5py.Dataset:
    """Make the dataset ``activations`` of a shard, in the chunks that `ShuffledBatches` reads."""
    return file.create_dataset(
        "activations",
        (n_tokens, d_model),
        dtype=dtype,
        chunks=(min(READ_ROWS, n_tokens), d_model),
        # A batch ends in the middle of a chunk, which must stay in memory until the next.
        rdcc_nbytes=4 * READ_ROWS * d_model * np.dtype(dtype).itemsize,
    )


class Activations:
    """Activations in memory, read in blocks as `ActivationShards` are.

    Parameters
    ----------
    x : (token, d_model)
        Raw activations of the model.
    sequence : (token) int
        Sequence that each token belongs to; tokens of one sequence are consecutive.

    Attributes
    ----------
    x, sequence
        As they are given, on the CPU.
    n_tokens, d_model : int

    Raises
    ------
    StudyError
        If there is no token, a number is not finite, the two differ in length, or a sequence is
        interrupted by another.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import Activations
    >>> x = Activations(torch.ones(4, 3), torch.tensor([7, 7, 2, 2]))
    >>> x.n_tokens, x.d_model, [block.start for block in x.blocks(2)]
    (4, 3, [0, 2])
    """

    def __init__(self, x: Float[Tensor, "token d_model"], sequence: Int[Tensor, " token"]) -> None:
        x, sequence = arrays.floats("x", x), arrays.integers("sequence", sequence)
        if x.ndim != 2 or not len(x) or sequence.shape != x.shape[:1]:
            raise StudyError(
                f"activations: shape {tuple(x.shape)}, sequence {tuple(sequence.shape)}, expected "
                "(token, d_model) and (token) of one token or more"
            )
        numbers = torch.unique_consecutive(sequence)
        if len(numbers) != len(torch.unique(numbers)):
            raise StudyError(
                "activations: a sequence is interrupted by another; put the tokens of each "
                "sequence beside each other"
            )
        self.x, self.sequence = x, sequence
        self.n_tokens, self.d_model = x.shape

    def blocks(self, n_tokens: int = BLOCK_TOKENS) -> Iterator[Block]:
        """Yield all tokens in order, in blocks of whole sequences of about ``n_tokens`` tokens."""
        for rows in _whole_sequences(self.sequence, n_tokens):
            yield Block(rows.start, self.x[rows], self.sequence[rows])


def _whole_sequences(sequence: Tensor, n_tokens: int) -> Iterator[slice]:
    # Where a sequence ends, a block may.
    last = torch.tensor([len(sequence)])
    ends = torch.cat([sequence.diff().nonzero().squeeze(1) + 1, last])
    low = 0
    for end in ends.tolist():
        if end - low >= n_tokens or end == len(sequence):
            yield slice(low, end)
            low = end


def _described(origin: tuple[str, str, int, str]) -> str:
    hook, model, d_model, commits = origin
    return f"{hook} of {model} (d_model {d_model}{', ' if commits else ''}{commits})"


def _commits(provenance: str) -> str:
    """Commits of the hub that activations come from: two of one model's name are two models."""
    hub = json.loads(provenance).get("hub", ())
    return ", ".join(f"{entry['repo']} at {entry['commit']}" for entry in hub)


class ActivationShards:
    """The HDF5 shards of one split as one long array of tokens.

    Parameters
    ----------
    paths
        Files ``activations/<split>/<shard>.h5`` in order.

    Attributes
    ----------
    n_tokens, d_model : int
    hook, model : str
        Where the activations come from.
    identity : str
        Says which activations these are: a digest of their provenance.
    """

    def __init__(self, paths: Sequence[str | Path], *, study: str | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        lengths, origins = [], []
        digest = hashlib.sha256()
        for path in self.paths:
            with open_record(Shard, path, study=study) as shard:
                lengths.append(len(shard.activations))
                digest.update(f"{lengths[-1]} {shard.provenance}".encode())
                commits = _commits(shard.provenance)
                origins.append((shard.hook, shard.model, shard.d_model, commits))
            if origins[-1] != origins[0]:
                raise StudyError(
                    f"{path}: activations of {_described(origins[-1])}, but {self.paths[0]} has "
                    f"{_described(origins[0])}; delete the shards and run again"
                )
        self.hook, self.model, self.d_model, _ = origins[0]
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.n_tokens = int(self.starts[-1])
        self.identity = digest.hexdigest()

    def blocks(self, n_tokens: int = BLOCK_TOKENS) -> Iterator[Block]:
        """Yield all tokens in order, in blocks of whole sequences of about ``n_tokens`` tokens."""
        for path, start in zip(self.paths, self.starts, strict=False):
            with open_record(Shard, path) as shard:
                sequence = torch.from_numpy(shard.sequence[...].astype(np.int64))
                for rows in _whole_sequences(sequence, n_tokens):
                    activations = torch.from_numpy(shard.activations[rows]).float()
                    yield Block(int(start) + rows.start, activations, sequence[rows])

    def first(self, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Read the first tokens, all where there are fewer.

        Returns
        -------
        x : (token, d_model) float32
        sequence : (token) int64
        """
        blocks = []
        for block in self.blocks():
            blocks.append(block)
            if block.start + len(block.activations) >= n_tokens:
                break
        x, sequence = (
            torch.cat([getattr(block, name) for block in blocks])[:n_tokens]
            for name in ("activations", "sequence")
        )
        return x, sequence


class ShuffledBatches:
    """Endless training batches, shuffled across all shards under a seed.

    An epoch visits short runs of consecutive tokens in random order over all shards. As many of
    them as fill the buffer are read, mixed token by token and cut into batches; the rest of the
    buffer that does not fill a batch is left out, and so is the rest of the epoch that does not
    fill a buffer. Batch b depends on the seed and b alone, so that a run can be taken up at any
    batch.

    Parameters
    ----------
    shards
        Where the activations are.
    batch_size
        Tokens a batch.
    buffer_size
        Tokens held in memory and mixed, at least a batch.
    seed
        Fixes the order for good.
    device
        Where the batches are wanted, and mixed.

    Raises
    ------
    StudyError
        If there are fewer tokens than one batch.
    """

    def __init__(
        self,
        shards: ActivationShards,
        batch_size: int,
        buffer_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if shards.n_tokens < batch_size:
            raise StudyError(
                f"training.batch_size: {batch_size} tokens a batch, but the training shards hold "
                f"only {shards.n_tokens}; use a smaller batch or more text"
            )
        self.shards, self.batch_size, self.seed = shards, batch_size, seed
        self.device = torch.device(device)
        self._copying = None if self.device.type == "cpu" else torch.cuda.Stream(self.device)
        # Runs never cross a shard; the last of each is shorter.
        self._runs = np.concatenate(
            [
                np.stack([rows, np.minimum(rows + READ_ROWS, end)], axis=1)
                for low, end in pairwise(shards.starts)
                if len(rows := np.arange(low, end, READ_ROWS))
            ]
        )
        # As many runs as fill the buffer, and never fewer than hold a batch if all are short.
        lengths = np.sort(self._runs[:, 1] - self._runs[:, 0])
        fewest = int(np.searchsorted(np.cumsum(lengths), batch_size)) + 1
        wanted = max(-(-buffer_size // READ_ROWS), fewest)
        self._runs_per_buffer = min(wanted, len(self._runs))
        self._buffers_per_epoch = len(self._runs) // self._runs_per_buffer

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches (batch_size, d_model) float32 from the first on."""
        return self.starting_at(0)

    def starting_at(self, batch: int) -> Generator[Tensor, None, None]:
        """Yield the batches from number `batch` on; files stay open until it is closed."""
        buffer = 0
        while batch >= (n_batches := self._n_tokens(buffer) // self.batch_size):
            batch, buffer = batch - n_batches, buffer + 1
        with ExitStack() as stack:
            files = [stack.enter_context(_opened(path)) for path in self.shards.paths]
            buffers = (self._buffer(files, number) for number in count(buffer))
            if self._copying is not None:
                # The thread would take its time from training on a CPU.
                buffers = stack.enter_context(closing(_ahead(buffers)))
            for rows, order in buffers:
                for chosen in order.split(self.batch_size)[batch : len(order) // self.batch_size]:
                    # Indexing with brackets takes several times as long on a CPU.
                    yield rows.index_select(0, chosen).float()
                batch = 0

    def _buffer_runs(self, buffer: int) -> np.ndarray:
        epoch, index = divmod(buffer, self._buffers_per_epoch)
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self._runs))
        first = index * self._runs_per_buffer
        return self._runs[order[first : first + self._runs_per_buffer]]

    def _n_tokens(self, buffer: int) -> int:
        return int(np.diff(self._buffer_runs(buffer), axis=1).sum())

    def _buffer(self, files: list[Dataset], buffer: int) -> tuple[Tensor, Tensor]:
        # Rows of a buffer as they are stored, and the order of its tokens in them.
        runs = self._buffer_runs(buffer)
        slots = np.empty((len(runs), READ_ROWS, self.shards.d_model), dtype=files[0].dtype)
        # Reading in the order of the file and placing by run keeps the disk's access sequential.
        places = np.argsort(runs[:, 0])
        firsts = runs[places, 0]
        cuts = np.searchsorted(firsts, self.shards.starts)
        for file, start, (low, high) in zip(
            files, self.shards.starts, pairwise(cuts), strict=False
        ):
            file.read_chunks(firsts[low:high] - start, slots, places[low:high])
        # The last chunk of a shard is not full.
        filled = np.flatnonzero(np.arange(READ_ROWS) < np.diff(runs, axis=1))
        order = np.random.default_rng((self.seed, 1, buffer)).permutation(len(filled))
        rows = torch.from_numpy(slots).view(-1, self.shards.d_model)
        return self._moved(rows), self._moved(torch.from_numpy(filled[order]))

    def _moved(self, tensor: Tensor) -> Tensor:
        # To the device, beside what else it does.
        if self._copying is None:
            return tensor
        with torch.cuda.stream(self._copying):
            moved = tensor.to(self.device)
        self._copying.synchronize()
        # Its memory is not to be given to the next buffer before training has done with it.
        moved.record_stream(torch.cuda.default_stream(self.device))
        return moved


@contextmanager
def _opened(path: Path) -> Iterator[Dataset]:
    with open_record(Shard, path) as shard:
        dataset = shard.activations
        chunks = (min(READ_ROWS, len(dataset)), dataset.shape[1])
        n_filters = dataset.id.get_create_plist().get_nfilters()
        if dataset.chunks != chunks or not dataset.fletcher32 or n_filters != 1:
            raise StudyError(
                f"{path}: activations in chunks of {dataset.chunks}, expected {chunks} with "
                "checksums and no compression; delete the shards and run again"
            )
        yield dataset


def _ahead(items: Iterator[_Item]) -> Generator[_Item, None, None]:
    """Yield items without end, each while a thread makes the next."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items)
        while True:
            item = coming.result()
            coming = thread.submit(next, items)
            yield item

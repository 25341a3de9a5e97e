"""Reading activation shards: in order for evaluation, shuffled for training."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sae_stitching.errors import StudyError
from sae_stitching.store import Dataset, read_hdf5

if TYPE_CHECKING:
    from jaxtyping import Float, Int

READ_ROWS = 64
"""Rows of one shuffled read: long enough that a read is sequential, short enough that a buffer
holds tokens of many documents. Shards are stored in chunks of as many: HDF5 reads whole ones."""

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
    n_tokens, d_model : int

    Raises
    ------
    StudyError
        If there is no token, the two differ in length, or a sequence is interrupted by another.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import Activations
    >>> x = Activations(torch.ones(4, 3), torch.tensor([7, 7, 2, 2]))
    >>> x.n_tokens, x.d_model, [block.start for block in x.blocks(2)]
    (4, 3, [0, 2])
    """

    def __init__(self, x: Float[Tensor, "token d_model"], sequence: Int[Tensor, " token"]) -> None:
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
        self._x, self._sequence = x, sequence
        self.n_tokens, self.d_model = x.shape

    def blocks(self, n_tokens: int = BLOCK_TOKENS) -> Iterator[Block]:
        """Yield all tokens in order, in blocks of whole sequences of about `n_tokens` tokens."""
        for rows in _whole_sequences(self._sequence, n_tokens):
            yield Block(rows.start, self._x[rows], self._sequence[rows])


def _whole_sequences(sequence: Tensor, n_tokens: int) -> Iterator[slice]:
    # Where a sequence ends, a block may.
    last = torch.tensor([len(sequence)])
    ends = torch.cat([sequence.diff().nonzero().squeeze(1) + 1, last])
    low = 0
    for end in ends.tolist():
        if end - low >= n_tokens or end == len(sequence):
            yield slice(low, end)
            low = end


def _described(origin: tuple[str, str, int]) -> str:
    hook, model, d_model = origin
    return f"{hook} of {model} (d_model {d_model})"


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
            with read_hdf5(path, format="activations", study=study) as file:
                lengths.append(len(file["activations"]))
                digest.update(f"{lengths[-1]} {file.attrs['provenance']}".encode())
                origins.append(
                    (
                        str(file.attrs["hook"]),
                        str(file.attrs["model"]),
                        int(file.attrs["d_model"]),
                    )
                )
            if origins[-1] != origins[0]:
                raise StudyError(
                    f"{path}: activations of {_described(origins[-1])}, but {self.paths[0]} has "
                    f"{_described(origins[0])}; delete the shards and run again"
                )
        self.hook, self.model, self.d_model = origins[0]
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.n_tokens = int(self.starts[-1])
        self.identity = digest.hexdigest()

    def blocks(self, n_tokens: int = BLOCK_TOKENS) -> Iterator[Block]:
        """Yield all tokens in order, in blocks of whole sequences of about `n_tokens` tokens."""
        for path, start in zip(self.paths, self.starts, strict=False):
            with read_hdf5(path, format="activations") as file:
                sequence = torch.from_numpy(file["sequence"][...].astype(np.int64))
                for rows in _whole_sequences(sequence, n_tokens):
                    activations = torch.from_numpy(file["activations"][rows]).float()
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

    Raises
    ------
    StudyError
        If there are fewer tokens than one batch.
    """

    def __init__(
        self, shards: ActivationShards, batch_size: int, buffer_size: int, seed: int
    ) -> None:
        if shards.n_tokens < batch_size:
            raise StudyError(
                f"training.batch_size: {batch_size} tokens a batch, but the training shards hold "
                f"only {shards.n_tokens}; use a smaller batch or more text"
            )
        self.shards, self.batch_size, self.seed = shards, batch_size, seed
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
        with ExitStack() as stack:
            files = [
                stack.enter_context(read_hdf5(path, format="activations"))["activations"]
                for path in self.shards.paths
            ]
            buffer, skip = 0, batch
            while True:
                runs = self._buffer_runs(buffer)
                n_batches = int((runs[:, 1] - runs[:, 0]).sum()) // self.batch_size
                if skip < n_batches:
                    yield from self._batches(files, runs, buffer, skip)
                skip = max(0, skip - n_batches)
                buffer += 1

    def _buffer_runs(self, buffer: int) -> np.ndarray:
        epoch, index = divmod(buffer, self._buffers_per_epoch)
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self._runs))
        first = index * self._runs_per_buffer
        return self._runs[order[first : first + self._runs_per_buffer]]

    def _batches(
        self, files: list[Dataset], runs: np.ndarray, buffer: int, skip: int
    ) -> Iterator[Tensor]:
        lengths = runs[:, 1] - runs[:, 0]
        ends = np.cumsum(lengths)
        rows = np.empty((int(ends[-1]), self.shards.d_model), dtype=files[0].dtype)
        # Reading in the order of the file and placing by run keeps the disk's access sequential.
        for run in np.argsort(runs[:, 0]):
            low = runs[run, 0]
            shard = int(np.searchsorted(self.shards.starts, low, side="right")) - 1
            offset = self.shards.starts[shard]
            files[shard].read_rows(low - offset, rows[ends[run] - lengths[run] : ends[run]])
        order = np.random.default_rng((self.seed, 1, buffer)).permutation(len(rows))
        mixed = torch.from_numpy(rows)
        for batch in range(skip, len(rows) // self.batch_size):
            first = batch * self.batch_size
            chosen = torch.from_numpy(order[first : first + self.batch_size])
            # Indexing with brackets takes several times as long.
            yield mixed.index_select(0, chosen).float()

"""The stored codes of an SAE over the eval tokens: written as a stream, read by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.base.record import create_record, open_record, record
from sae_stitching.saes.sae import SAE, Decoder, fingerprint
from sae_stitching.sparse.codes import SparseCodes, SparsePattern

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Int64


@record("codes", "codes/<sae>.h5")
class Codes:
    """Activations of all latents on the eval tokens, in CSR form, the tokens in their order."""

    d_sae: int
    """Latents of the SAE."""
    sae_fingerprint: str
    """Of the SAE."""
    indptr: Int64[np.ndarray, " token+1"]
    """Where each token's entries begin."""
    indices: Int32[np.ndarray, " entry"]
    """Active latents of each token."""
    values: Float32[np.ndarray, " entry"]
    """Their activations."""


def encode_shards(
    sae: SAE,
    paths: Sequence[str | Path],
    path: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Encode the eval tokens and write ``codes/<sae>.h5``, the codes in CSR form.

    Tokens are encoded in blocks of whole sequences, so that their number is no matter.

    Parameters
    ----------
    sae
        The SAE.
    paths
        Shards of activations, in order.
    path
        File to write.
    study, provenance
        See `store.write_hdf5`.

    Raises
    ------
    StudyError
        If the SAE reads another d_model or hook than the activations have.
    """
    shards = ActivationShards(paths, study=study)
    check_fits(sae, shards)
    progress = Progress(shards.n_tokens, f"encode {Path(path).stem}")
    with create_record(Codes, path, study=study, provenance=provenance) as file:
        file.attrs["d_sae"] = sae.d_sae
        file.attrs["sae_fingerprint"] = fingerprint(sae)
        indptr = np.zeros(shards.n_tokens + 1, dtype=np.int64)
        # The number of active latents is known only at the end, so the datasets grow.
        growing = {"chunks": (1 << 16,), "maxshape": (None,), "shape": (0,)}
        indices = file.create_dataset("indices", dtype=np.int32, **growing)
        values = file.create_dataset("values", dtype=np.float32, **growing)
        for block in shards.blocks():
            codes = sae.encode(block.activations)
            start, end = block.start, block.start + codes.n_tokens
            offset = int(indptr[start])
            indptr[start : end + 1] = codes.pattern.indptr.numpy() + offset
            for dataset, data in ((indices, codes.pattern.indices), (values, codes.values)):
                dataset.resize((offset + len(codes),))
                dataset[offset:] = data.numpy()
            progress.update(codes.n_tokens)
        file["indptr"] = indptr


def check_fits(sae: SAE, shards: ActivationShards) -> None:
    """Raise StudyError unless the SAE reads activations such as these."""
    if sae.d_model != shards.d_model:
        raise StudyError(
            f"{shards.paths[0]}: holds activations of d_model {shards.d_model}, but the SAE reads "
            f"{sae.d_model}; is it for this model?"
        )
    if sae.hook and sae.hook != shards.hook:
        raise StudyError(
            f"{shards.paths[0]}: holds activations of {shards.hook}, but the SAE was trained on "
            f"{sae.hook}; correct model.hook, or name another SAE"
        )


class StoredCodes:
    """Codes on disk, read by ranges of tokens."""

    def __init__(self, path: str | Path, stored: Any) -> None:
        self._stored = stored
        self.path = str(path)
        self.d_sae = stored.d_sae
        self._indptr = stored.indptr[...]
        self.n_tokens = len(self._indptr) - 1

    def __len__(self) -> int:
        return int(self._indptr[-1])

    def tokens(self, start: int, end: int) -> SparseCodes:
        """Codes of tokens ``start:end``."""
        low, high = self._indptr[start], self._indptr[end]
        indptr = torch.from_numpy(self._indptr[start : end + 1] - low)
        indices = torch.from_numpy(self._stored.indices[low:high].astype(np.int64))
        values = torch.from_numpy(self._stored.values[low:high])
        return SparseCodes(SparsePattern(indptr, indices, self.d_sae), values)

    def blocks(self, n_tokens: int = 1 << 15) -> Iterator[SparseCodes]:
        """All codes in order, ``n_tokens`` tokens at a time."""
        for start in range(0, self.n_tokens, n_tokens):
            yield self.tokens(start, min(start + n_tokens, self.n_tokens))


@contextmanager
def open_codes(
    path: str | Path, sae: SAE | Decoder, *, study: str | None = None
) -> Iterator[StoredCodes]:
    """Open ``codes/<sae>.h5`` and check that they are the codes of `sae`.

    Parameters
    ----------
    path
        File of a study.
    sae
        Whose codes they must be.
    study
        Study that the file must belong to; any by default.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format or study, or holds the codes of
        another SAE.
    """
    with open_record(Codes, path, study=study) as stored:
        if stored.sae_fingerprint != fingerprint(sae):
            raise StudyError(f"{path}: these are the codes of another SAE; delete it and run again")
        yield StoredCodes(path, stored)

"""Sparse autoencoders: weights, encoding, decoding, and the file they live in.

f(x) = σ((x − b_dec) W_enc + b_enc)     Eq. 1, b_dec subtracted where the SAE does so
x̂(f) = f W_dec + b_dec                  Eq. 2 and 4

An SAE that normalises each token has, instead of x, what `normalization` makes of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sae_stitching.base import arrays
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import open_record, write_record
from sae_stitching.saes import normalization
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae_file import StoredSAE, load_stored_sae
from sae_stitching.sparse.active import above, largest_of_token
from sae_stitching.sparse.codes import SparseCodes, SparsePattern

if TYPE_CHECKING:
    from jaxtyping import Float

# The weights in the order in which the fingerprint takes them.
_TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")

# Dense pre-activations held at once while encoding: 64 Mi values are 256 MiB in float32.
_ENCODE_ELEMENTS = 1 << 26

# Values that are checked at once, so that the check holds little: 8 Mi are 32 MiB.
_CHECK_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class SAE:
    """A trained sparse autoencoder that reads raw activations.

    Attributes
    ----------
    W_enc : (d_model, d_sae)
    W_dec : (d_sae, d_model)
        Row i is the decoder direction of latent i.
    b_enc : (d_sae)
    b_dec : (d_model)
    architecture : str
        A key of `architectures.ARCHITECTURES`, where it is told what makes a latent active.
    threshold : (d_sae) or None
        A latent is active above it (batchtopk, jumprelu).
    k : int or None
        Active latents a token (topk; on average in training for batchtopk).
    apply_b_dec_to_input : bool
        Whether `b_dec` is subtracted from the encoder's input.
    normalize : str or None
        How it normalises each token, one of `normalization.NORMALIZATIONS`.
    hook, model : str
        Where the activations come from.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE
    >>> W_dec = torch.eye(2)
    >>> sae = SAE(W_dec.T, W_dec, torch.zeros(2), torch.zeros(2), architecture="relu")
    >>> codes = sae.encode(torch.tensor([[3.0, -1.0]]))
    >>> codes.to_dense().tolist(), sae.decode(codes).tolist()
    ([[3.0, 0.0]], [[3.0, 0.0]])
    """

    W_enc: Float[Tensor, "d_model d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_enc: Float[Tensor, " d_sae"]
    b_dec: Float[Tensor, " d_model"]
    architecture: str
    threshold: Float[Tensor, " d_sae"] | None = None
    k: int | None = None
    apply_b_dec_to_input: bool = True
    hook: str = ""
    model: str = ""
    normalize: str | None = None

    @property
    def d_model(self) -> int:
        """Size of the activations."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]

    def double(self) -> SAE:
        """The same SAE in float64."""
        return self._map(lambda _, tensor: tensor.double())

    def _map(self, function: Any) -> SAE:
        tensors = {
            name: function(name, value)
            for name in _TENSORS
            if (value := getattr(self, name)) is not None
        }
        return SAE(**{**self.__dict__, **tensors})

    def pre_activations(self, x: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_sae"]:
        """Encoder before the activation function, dense (inside of Eq. 1)."""
        if self.normalize is not None:
            x = normalization.normalized(x, self.normalize)
        centred = x - self.b_dec if self.apply_b_dec_to_input else x
        return torch.addmm(self.b_enc, centred, self.W_enc)

    def encode(self, x: Float[Tensor, "token d_model"]) -> SparseCodes:
        """Sparse codes f(x) of activations, as used after training (Eq. 1).

        Tokens are encoded in blocks, so that the dense pre-activations stay small.

        Parameters
        ----------
        x : (token, d_model)
            Raw activations of the model.

        Raises
        ------
        StudyError
            If `x` has another d_model, or a number in it is not finite.
        """
        x = arrays.floats("x", x).to(self.W_enc.device)
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise StudyError(
                f"activations: shape {tuple(x.shape)}, but the SAE reads (token, {self.d_model}); "
                "is it for this model?"
            )
        step = max(1, _ENCODE_ELEMENTS // self.d_sae)
        blocks = [self._encode_block(block) for block in x.split(step)]
        return blocks[0] if len(blocks) == 1 else concatenate(blocks)

    def _encode_block(self, x: Tensor) -> SparseCodes:
        pre = self.pre_activations(x.to(self.W_enc.dtype))
        if self.architecture == "relu":
            return above(pre)
        if self.architecture == "topk":
            assert self.k is not None
            return largest_of_token(pre, self.k)
        assert self.threshold is not None
        return above(pre, self.threshold.clamp(min=0.0))

    def decode(
        self, codes: SparseCodes, x: Float[Tensor, "token d_model"] | None = None
    ) -> Float[Tensor, "token d_model"]:
        """Reconstruction x̂ = f W_dec + b_dec (Eq. 2 and 4).

        Parameters
        ----------
        codes
        x : (token, d_model)
            Activations that these are the codes of. An SAE that normalises each token has their
            scale and mean to give back; to others they are nothing.

        Raises
        ------
        StudyError
            If such an SAE is not given them.
        """
        x_hat = codes.matmul(self.W_dec) + self.b_dec
        if self.normalize is None:
            return x_hat
        if x is None:
            raise StudyError(
                f"decode: this SAE normalises each token by {self.normalize}; give the "
                "activations x too"
            )
        return normalization.restored(x_hat, x.to(x_hat), self.normalize)


def taken_in(sae: SAE, name: str) -> SAE:
    """Take in an SAE as it comes from a notebook, see `arrays.floats`.

    Raises
    ------
    StudyError
        If a tensor is of another type or shape, or not finite; with `name` in front of its own.
    """
    found = sae._map(lambda field, value: arrays.floats(f"{name}.{field}", value))
    _check(found, name)
    # Half precision holds weights, but is too coarse to compute with.
    dtype = found.W_dec.dtype
    for tensor in (found.W_enc, found.b_enc, found.b_dec, torch.zeros(0)):
        dtype = torch.promote_types(dtype, tensor.dtype)
    return found._map(lambda _, tensor: tensor.to(dtype))


def concatenate(blocks: list[SparseCodes]) -> SparseCodes:
    """Codes of consecutive blocks of tokens as one."""
    counts = torch.cat([block.pattern.indptr.diff() for block in blocks])
    indptr = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=indptr[1:])
    indices = torch.cat([block.pattern.indices for block in blocks])
    pattern = SparsePattern(indptr, indices, blocks[0].d_sae)
    return SparseCodes(pattern, torch.cat([block.values for block in blocks]))


@dataclass(frozen=True)
class Decoder:
    """The decoder of an SAE, all that is needed of it once its codes are stored.

    Attributes
    ----------
    W_dec : (d_sae, d_model)
        Row i is the decoder direction of latent i.
    b_dec : (d_model)
    architecture : str
    fingerprint : str
        Of the whole SAE.
    normalize : str or None
        As of the SAE.
    """

    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    architecture: str
    fingerprint: str
    normalize: str | None = None

    @property
    def d_model(self) -> int:
        """Size of the activations."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]


def fingerprint(sae: SAE | Decoder) -> str:
    """SHA-256 of the weights, by which codes and similarities name the SAE they belong to."""
    if isinstance(sae, Decoder):
        return sae.fingerprint
    tensors = (getattr(sae, name) for name in _TENSORS)
    arrays = (t.detach().float().cpu().contiguous().numpy() for t in tensors if t is not None)
    return _digest(sae, arrays)


def _digest(settings: SAE | StoredSAE, arrays: Iterable[np.ndarray]) -> str:
    words = [settings.architecture, settings.k, settings.apply_b_dec_to_input]
    if settings.normalize is not None:
        words.append(settings.normalize)
    digest = hashlib.sha256(" ".join(map(str, words)).encode())
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


def save_sae(
    sae: SAE,
    path: str | Path,
    *,
    study: str = "",
    provenance: Mapping[str, Any] | None = None,
    rows: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write ``saes/<sae>.h5``: float32 weights, and what is needed to read them.

    Parameters
    ----------
    sae
        The SAE.
    path
        File to write; one that is there is replaced.
    study
        Study that it belongs to, if any.
    provenance
        How it was made, in plain JSON types.
    rows
        Of a stitched SAE, the datasets `source` and `latent` of `StoredSAE`.

    Raises
    ------
    StudyError
        If a tensor has the wrong shape or holds a non-finite value.
    """
    _check(sae, path)
    values: dict[str, Any] = dict(vars(sae))
    for name in _TENSORS:
        if (tensor := values[name]) is not None:
            values[name] = tensor.detach().float().cpu().numpy()
    stored = StoredSAE(**values, **{"fingerprint": fingerprint(sae), **(rows or {})})
    write_record(stored, path, study=study, provenance=provenance or {})


def read_sae(path: str | Path, *, study: str | None = None) -> SAE:
    """Read ``saes/<sae>.h5``; `pretrained.load_sae` reads other libraries' files too.

    Raises
    ------
    StudyError
        If a tensor is missing, has the wrong shape or holds a non-finite value.
    """
    stored = load_stored_sae(path, study=study)
    values = {entry.name: getattr(stored, entry.name) for entry in fields(SAE)}
    sae = SAE(**values)._map(lambda _, array: torch.from_numpy(array))
    try:
        _check(sae, path)
    except StudyError as error:
        raise StudyError(f"{error}; delete it and run again") from error
    if fingerprint(sae) != stored.fingerprint:
        raise _altered(path)
    return sae


def load_decoder(path: str | Path, *, study: str | None = None, double: bool = False) -> Decoder:
    """Read the decoder of ``saes/<sae>.h5``, in half the memory of the whole SAE.

    Parameters
    ----------
    path
    study
        Study that the file must belong to.
    double
        Read it in float64, in which everything but cosines is computed.

    Raises
    ------
    StudyError
        If a tensor is missing, or is not what was written.
    """
    with open_record(StoredSAE, path, study=study) as stored:
        if _digest(stored, _in_blocks(stored)) != stored.fingerprint:
            raise _altered(path)
        dtype = torch.float64 if double else torch.float32
        W_dec, b_dec = (torch.empty(d.shape, dtype=dtype) for d in (stored.W_dec, stored.b_dec))
        # HDF5 converts as it reads, a block at a time.
        stored.W_dec.read_direct(W_dec.numpy())
        stored.b_dec.read_direct(b_dec.numpy())
        return Decoder(W_dec, b_dec, stored.architecture, stored.fingerprint, stored.normalize)


def _in_blocks(stored: Any) -> Iterator[np.ndarray]:
    # The weights in rows of a few megabytes.
    for name in _TENSORS:
        if (dataset := getattr(stored, name)) is not None:
            rows = _rows_at_once(dataset)
            for first in range(0, len(dataset), rows):
                yield dataset[first : first + rows]


def _rows_at_once(array: Any) -> int:
    # Rows of a tensor or a dataset that are checked together.
    return max(1, _CHECK_ELEMENTS // max(1, math.prod(array.shape[1:])))


def _altered(path: str | Path) -> StudyError:
    return StudyError(
        f"{path}: the weights are not those that were written; delete it and run again"
    )


def _check(sae: SAE, path: str | Path) -> None:
    if sae.architecture not in ARCHITECTURES:
        raise StudyError(f"{path}: unknown architecture {sae.architecture!r}")
    if (sae.threshold is None) != (sae.architecture in ("relu", "topk")):
        need = "needs" if sae.threshold is None else "has no use for"
        raise StudyError(f"{path}: architecture {sae.architecture} {need} a threshold")
    if sae.architecture == "topk" and not sae.k:
        raise StudyError(f"{path}: architecture topk needs k")
    if sae.normalize not in (None, *NORMALIZATIONS):
        raise StudyError(f"{path}: unknown norm of tokens {sae.normalize!r}")
    if sae.W_dec.ndim != 2:
        raise StudyError(
            f"{path}: W_dec has shape {tuple(sae.W_dec.shape)}, expected (d_sae, d_model)"
        )
    d_sae, d_model = sae.W_dec.shape
    shapes = {
        "W_enc": (d_model, d_sae),
        "b_enc": (d_sae,),
        "b_dec": (d_model,),
        "threshold": (d_sae,),
    }
    for name, shape in shapes.items():
        tensor = getattr(sae, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise StudyError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
    for name in _TENSORS:
        tensor = getattr(sae, name)
        if tensor is None:
            continue
        first = 0
        for part in tensor.split(_rows_at_once(tensor)):
            if not bool(torch.isfinite(part).all()):
                row, *rest = (~torch.isfinite(part)).nonzero()[0].tolist()
                raise StudyError(f"{path}: {name} is not finite at {[first + row, *rest]}")
            first += len(part)

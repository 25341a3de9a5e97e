"""Sparse autoencoders: weights, encoding, decoding, and the file they live in.

f(x) = σ((x − b_dec) W_enc + b_enc)     Eq. 1, b_dec subtracted where the SAE does so
x̂(f) = f W_dec + b_dec                  Eq. 2 and 4
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_stitching.errors import StudyError
from sae_stitching.sparse import SparseCodes, SparsePattern
from sae_stitching.store import read_hdf5, write_hdf5

#: Activation functions: what makes a latent active, given its pre-activation.
ARCHITECTURES = {
    "relu": "positive",
    "topk": "among the k greatest of its token, and positive",
    "batchtopk": "above a threshold learned from the batches in training",
    "jumprelu": "above its own threshold",
    "gated": "above a threshold that follows from the gate, see `architectures.Gated`",
}

# Dense pre-activations held at once while encoding: 64 Mi values are 256 MiB in float32.
_ENCODE_ELEMENTS = 1 << 26


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
        A key of `ARCHITECTURES`.
    threshold : (d_sae) or None
        A latent is active above it (batchtopk, jumprelu).
    k : int or None
        Active latents a token (topk; on average in training for batchtopk).
    apply_b_dec_to_input : bool
        Whether `b_dec` is subtracted from the encoder's input.
    hook, model : str
        Where the activations come from.
    """

    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    architecture: str
    threshold: Tensor | None = None
    k: int | None = None
    apply_b_dec_to_input: bool = True
    hook: str = ""
    model: str = ""

    @property
    def d_model(self) -> int:
        """Size of the activations."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]

    def double(self) -> "SAE":
        """The same SAE in float64."""
        return self._map(torch.Tensor.double)

    def _map(self, function: Any) -> "SAE":
        tensors = {
            name: function(value)
            for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
            if (value := getattr(self, name)) is not None
        }
        return SAE(**{**self.__dict__, **tensors})

    def pre_activations(self, x: Tensor) -> Tensor:
        """Encoder before the activation function, dense (token, d_sae)."""
        centred = x - self.b_dec if self.apply_b_dec_to_input else x
        return torch.addmm(self.b_enc, centred, self.W_enc)

    def encode(self, x: Tensor) -> SparseCodes:
        """Sparse codes of activations `x` (token, d_model), as used after training.

        Tokens are encoded in blocks, so that the dense pre-activations stay small.
        """
        step = max(1, _ENCODE_ELEMENTS // self.d_sae)
        blocks = [self._encode_block(block) for block in x.split(step)]
        return blocks[0] if len(blocks) == 1 else concatenate(blocks)

    def _encode_block(self, x: Tensor) -> SparseCodes:
        pre = self.pre_activations(x)
        if self.architecture == "relu":
            return SparseCodes.from_dense(pre)
        if self.architecture == "topk":
            assert self.k is not None
            return top_k(pre, self.k)
        assert self.threshold is not None
        return SparseCodes.from_mask(pre, (pre > self.threshold) & (pre > 0))

    def decode(self, codes: SparseCodes) -> Tensor:
        """Reconstruction x̂ = f W_dec + b_dec (token, d_model)."""
        return codes.matmul(self.W_dec) + self.b_dec


def top_k(pre: Tensor, k: int) -> SparseCodes:
    """Keep the k greatest pre-activations of each token, where they are positive."""
    n_tokens, d_sae = pre.shape
    values, indices = pre.topk(k, dim=1, sorted=False)
    # CSR wants the latents of a token in order.
    indices, order = indices.sort(dim=1)
    values = values.gather(1, order)
    positive = values > 0
    if positive.all():
        indptr = torch.arange(0, n_tokens * k + 1, k, device=pre.device)
        pattern = SparsePattern(indptr, indices.view(-1), d_sae)
        return SparseCodes(pattern, values.view(-1).to(_accumulator(pre.dtype)))
    indptr = torch.zeros(n_tokens + 1, dtype=torch.int64, device=pre.device)
    torch.cumsum(positive.sum(1), 0, out=indptr[1:])
    pattern = SparsePattern(indptr, indices[positive], d_sae)
    return SparseCodes(pattern, values[positive].to(_accumulator(pre.dtype)))


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype


def concatenate(blocks: list[SparseCodes]) -> SparseCodes:
    """Codes of consecutive blocks of tokens as one."""
    counts = torch.cat([block.pattern.indptr.diff() for block in blocks])
    indptr = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=indptr[1:])
    indices = torch.cat([block.pattern.indices for block in blocks])
    pattern = SparsePattern(indptr, indices, blocks[0].d_sae)
    return SparseCodes(pattern, torch.cat([block.values for block in blocks]))


def fingerprint(sae: SAE) -> str:
    """SHA-256 of the weights, by which codes and similarities name the SAE they belong to."""
    described = f"{sae.architecture} {sae.k} {sae.apply_b_dec_to_input}"
    digest = hashlib.sha256(described.encode())
    for tensor in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec, sae.threshold):
        if tensor is not None:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def save_sae(sae: SAE, path: str | Path, *, study: str, provenance: Mapping[str, Any]) -> None:
    """Write ``saes/<sae>.h5``: float32 weights, and what is needed to read them.

    Raises
    ------
    StudyError
        If a tensor has the wrong shape or holds a non-finite value.
    """
    _check(sae, path)
    with write_hdf5(path, format="sae", study=study, provenance=provenance) as file:
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
            tensor = getattr(sae, name)
            if tensor is not None:
                file[name] = tensor.detach().float().cpu().numpy()
        file.attrs["architecture"] = sae.architecture
        file.attrs["apply_b_dec_to_input"] = sae.apply_b_dec_to_input
        file.attrs["hook"] = sae.hook
        file.attrs["model"] = sae.model
        file.attrs["fingerprint"] = fingerprint(sae)
        if sae.k is not None:
            file.attrs["k"] = sae.k


def load_sae(path: str | Path, *, study: str | None = None) -> SAE:
    """Read ``saes/<sae>.h5``.

    Raises
    ------
    StudyError
        If a tensor is missing, has the wrong shape or holds a non-finite value.
    """
    with read_hdf5(path, format="sae", study=study) as file:
        tensors = {}
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
            if name in file:
                tensors[name] = torch.from_numpy(file[name][...])
            elif name != "threshold":
                raise StudyError(f"{path}: tensor {name} is missing; delete it and run again")
        for name in ("architecture", "apply_b_dec_to_input", "hook", "model", "fingerprint"):
            if name not in file.attrs:
                raise StudyError(f"{path}: attribute {name} is missing; delete it and run again")
        sae = SAE(
            **tensors,
            architecture=str(file.attrs["architecture"]),
            k=int(file.attrs["k"]) if "k" in file.attrs else None,
            apply_b_dec_to_input=bool(file.attrs["apply_b_dec_to_input"]),
            hook=str(file.attrs["hook"]),
            model=str(file.attrs["model"]),
        )
        try:
            _check(sae, path)
        except StudyError as error:
            raise StudyError(f"{error}; delete it and run again") from error
        if fingerprint(sae) != file.attrs["fingerprint"]:
            raise StudyError(
                f"{path}: the weights are not those that were written; delete it and run again"
            )
        return sae


def _check(sae: SAE, path: str | Path) -> None:
    if sae.architecture not in ARCHITECTURES:
        raise StudyError(f"{path}: unknown architecture {sae.architecture!r}")
    if (sae.threshold is None) != (sae.architecture in ("relu", "topk")):
        need = "needs" if sae.threshold is None else "has no use for"
        raise StudyError(f"{path}: architecture {sae.architecture} {need} a threshold")
    if sae.architecture == "topk" and not sae.k:
        raise StudyError(f"{path}: architecture topk needs k")
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
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
        tensor = getattr(sae, name)
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            position = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise StudyError(f"{path}: {name} is not finite at {position}")

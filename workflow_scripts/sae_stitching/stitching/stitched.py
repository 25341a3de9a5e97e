"""Stitched SAEs as SAEs of their own (Section 4.1): latents of several SAEs in one.

Eq. 5 sums latents of two SAEs, each activated by its own encoder, and mixes their biases:

    x̂ = α b_dec0 + (1 − α) b_dec1 + Σ_{L0} W_dec0_i f0_i + Σ_{L1} W_dec1_i f1_i,
    α = |L0| / (|L0| + |L1|)                                                        (Eq. 5)

That is an SAE again, whose encoder holds the encoder directions of those latents. Its bias is no
longer what its members subtract from their input, so each member's is folded into its b_enc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sae_stitching.base import arrays
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import open_record
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.saes.normalization import shared
from sae_stitching.saes.sae import SAE, fingerprint, save_sae
from sae_stitching.saes.sae_file import StoredSAE

# Dense pre-activations held at once while a threshold is estimated: 256 MiB in float32.
_ELEMENTS = 1 << 26

Latents = Sequence[int] | np.ndarray | Tensor
"""Numbers of latents, or a bool mask (d_sae)."""


@dataclass(frozen=True, eq=False)
class StitchedSAE:
    """An SAE made of latents of other SAEs; every operation gives a new one.

    Made by `of`, then `insert`, `remove` and `swap`. Latents that stay keep their order, and those
    that come are added at the end.

    The bias is that of Eq. 5 with ``α = |L0| / (|L0| + |L1|)``, L0 being all latents there are and
    L1 those that come. One operation after the other, this weighs the b_dec of every SAE by the
    number of its latents,

        b_dec = Σ_m n_m b_dec_m / Σ_m n_m,

    whatever the order, so that insertions can be grouped in any way; removed latents count no more.
    A member that has been stitched before counts with all its latents and the bias that it has.

    Attributes
    ----------
    names : tuple of str
        The SAEs that latents were taken from, the first being the one that was begun with.
    saes : tuple of SAE
        Those SAEs.
    member : (d_sae) int64
        Which of them each latent comes from.
    latent : (d_sae) int64
        The latent's number there.

    Notes
    -----
    A latent is active where its own SAE's encoder activates it, so that the codes of the stitched
    SAE are a part of the members' codes. A TopK encoder decides by all its latents together,
    which some of them cannot repeat: give such an SAE a threshold first, see
    `with_threshold`.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, StitchedSAE
    >>> W = torch.eye(3)
    >>> small = SAE(W[:, :1], W[:1], torch.zeros(1), torch.zeros(3), "relu")
    >>> large = SAE(W, W, torch.zeros(3), torch.ones(3), "relu")
    >>> stitched = StitchedSAE.of(small, "1").insert(large, [2], "3")
    >>> stitched.source.tolist(), stitched.latent.tolist(), stitched.sae.b_dec.tolist()
    (['1', '3'], [0, 2], [0.5, 0.5, 0.5])
    >>> stitched.sae.encode(torch.tensor([[2.0, 2.0, 2.0]])).to_dense().tolist()
    [[2.0, 1.0]]
    """

    names: tuple[str, ...]
    saes: tuple[SAE, ...] = field(repr=False)
    member: np.ndarray = field(repr=False)
    latent: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, sae: SAE, name: str) -> StitchedSAE:
        """Begin with all latents of an SAE.

        Parameters
        ----------
        sae
        name
            What `source` calls it.

        Raises
        ------
        StudyError
            If it is a TopK SAE.
        """
        _check_member(sae, name)
        latents = np.arange(sae.d_sae)
        return cls((name,), (sae,), np.zeros_like(latents), latents)

    def insert(self, large: SAE, latents: Latents, name: str) -> StitchedSAE:
        """Put latents of another SAE in, at the end and in the order given.

        Parameters
        ----------
        large
        latents
            Numbers of latents of `large`, or a bool mask (d_large).
        name
            What `source` calls `large`.

        Raises
        ------
        StudyError
            If a latent is there already or does not exist; if `large` is a TopK SAE, reads another
            d_model or hook, or the name is that of another member.
        """
        new = _numbers(latents, large.d_sae, f"SAE {name}")
        if name in self.names:
            number = self.names.index(name)
            if large is not self.saes[number] and fingerprint(large) != fingerprint(
                self.saes[number]
            ):
                raise StudyError(f"SAE {name}: another SAE of this name is in; choose another name")
            there = new[np.isin(new, self.latent[self.member == number])]
            if len(there):
                raise StudyError(f"SAE {name}: its latent {there[0]} is in already; leave it out")
            names, saes = self.names, self.saes
        else:
            _check_member(large, name)
            self._check_input(large, name)
            number = len(self.names)
            names, saes = (*self.names, name), (*self.saes, large)
        member = np.concatenate([self.member, np.full_like(new, number)])
        return StitchedSAE(names, saes, member, np.concatenate([self.latent, new]))

    def remove(self, latents: Latents) -> StitchedSAE:
        """Take latents out.

        Parameters
        ----------
        latents
            Their numbers in this stitched SAE, or a bool mask (d_sae).
        """
        gone = _numbers(latents, self.d_sae, "the stitched SAE")
        return replace(
            self, member=np.delete(self.member, gone), latent=np.delete(self.latent, gone)
        )

    def swap(
        self,
        large: SAE,
        subgraphs: Subgraphs,
        components: Sequence[int] | np.ndarray | None = None,
        *,
        name: str,
    ) -> StitchedSAE:
        """Swap connected subgraphs: latents of this SAE go, those of another come (Section 4.2).

        Parameters
        ----------
        large
        subgraphs
            Of this SAE, as it is now, and `large`.
        components
            Numbers of the subgraphs to swap; all by default.
        name
            What `source` calls `large`.

        Raises
        ------
        StudyError
            If the subgraphs are of SAEs of other sizes or a component does not exist; and as
            `insert`.
        """
        found = len(subgraphs.component_small), len(subgraphs.component_large)
        if found != (self.d_sae, large.d_sae):
            raise StudyError(
                f"subgraphs: of SAEs of {found[0]} and {found[1]} latents, but these have "
                f"{self.d_sae} and {large.d_sae}; compare these two"
            )
        n = subgraphs.n_components
        chosen = np.arange(n) if components is None else np.asarray(components, dtype=np.int64)
        beyond = chosen[(chosen < 0) | (chosen >= n)]
        if len(beyond):
            there = f"the last is {n - 1}" if n else "there are none"
            raise StudyError(
                f"SAE {name}: there is no connected subgraph {beyond[0]} at θ "
                f"{subgraphs.theta:g}; {there}"
            )
        coming = np.isin(subgraphs.component_large, chosen)
        return self.remove(np.isin(subgraphs.component_small, chosen)).insert(large, coming, name)

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return len(self.latent)

    @property
    def source(self) -> np.ndarray:
        """Name of the SAE that each latent comes from, (d_sae) str."""
        return np.array(self.names)[self.member]

    @cached_property
    def sae(self) -> SAE:
        """The stitched SAE as an SAE, which does not subtract its b_dec from the input.

        All members being ReLU it is one too; otherwise it is JumpReLU with every latent's own
        threshold, 0 for those of ReLU SAEs.

        Raises
        ------
        StudyError
            If no latent is left.
        """
        if not self.d_sae:
            raise StudyError("the stitched SAE has no latent; insert some")
        first = self.saes[0]
        dtype = first.W_dec.dtype
        for sae in self.saes:
            dtype = torch.promote_types(dtype, sae.W_dec.dtype)
        d_model = first.d_model
        W_enc = torch.empty(d_model, self.d_sae, dtype=dtype)
        W_dec = torch.empty(self.d_sae, d_model, dtype=dtype)
        b_enc, threshold = torch.empty(2, self.d_sae, dtype=dtype)
        b_dec = torch.zeros(d_model, dtype=torch.float64)
        relu = True
        for number, sae in enumerate(self.saes):
            rows = torch.from_numpy(np.flatnonzero(self.member == number))
            if not len(rows):
                continue
            latents = torch.from_numpy(self.latent)[rows]
            encoder = sae.W_enc[:, latents]
            W_enc[:, rows] = encoder.to(dtype)
            W_dec[rows] = sae.W_dec[latents].to(dtype)
            # (x − b_dec) W_enc + b_enc = x W_enc + (b_enc − b_dec W_enc)
            bias = sae.b_enc[latents].double()
            if sae.apply_b_dec_to_input:
                bias -= sae.b_dec.double() @ encoder.double()
            b_enc[rows] = bias.to(dtype)
            # Pre-activations have to be positive too, see `SAE.encode`.
            own = torch.zeros(sae.d_sae) if sae.threshold is None else sae.threshold.clamp(min=0.0)
            threshold[rows] = own[latents].to(dtype)
            relu &= sae.architecture == "relu"
            b_dec += len(rows) / self.d_sae * sae.b_dec.double()  # the α of Eq. 5
        return SAE(
            W_enc=W_enc,
            W_dec=W_dec,
            b_enc=b_enc,
            b_dec=b_dec.to(dtype),
            architecture="relu" if relu else "jumprelu",
            threshold=None if relu else threshold,
            apply_b_dec_to_input=False,
            hook=next((sae.hook for sae in self.saes if sae.hook), ""),
            model=next((sae.model for sae in self.saes if sae.model), ""),
            normalize=first.normalize,
        )

    def _check_input(self, large: SAE, name: str) -> None:
        first = self.saes[0]
        if large.d_model != first.d_model:
            raise StudyError(
                f"SAE {name}: reads activations of d_model {large.d_model}, but {self.names[0]} "
                f"of {first.d_model}; stitch SAEs of one model"
            )
        shared({self.names[0]: first.normalize, f"SAE {name}": large.normalize})
        hooks = {sae.hook for sae in (*self.saes, large) if sae.hook}
        if len(hooks) > 1:
            raise StudyError(
                f"SAE {name}: was trained on {large.hook}, the others on "
                f"{', '.join(sorted(hooks - {large.hook}))}; stitch SAEs of one hook"
            )


def _check_member(sae: SAE, name: str) -> None:
    if sae.architecture == "topk":
        raise StudyError(
            f"SAE {name}: which of its latents are active depends on all of them (TopK); give it a "
            "threshold first (with_threshold)"
        )


def _numbers(latents: Latents, d_sae: int, of: str) -> np.ndarray:
    """Resolve numbers or a mask of latents to numbers, (n) int64."""
    given = arrays.array("latents", latents)
    if given.dtype == bool:
        if given.shape != (d_sae,):
            raise StudyError(
                f"latents: a mask of shape {given.shape} for the {d_sae} latents of {of}"
            )
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise StudyError("latents: give a list of whole numbers, or a mask")
    numbers = given.astype(np.int64)
    beyond = numbers[(numbers < 0) | (numbers >= d_sae)]
    if len(beyond):
        raise StudyError(f"latents: there is no latent {beyond[0]} in {of}, which has {d_sae}")
    values, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        raise StudyError(f"latents: latent {values[counts > 1][0]} is given twice; give it once")
    return numbers


def with_threshold(sae: SAE, threshold: float) -> SAE:
    """Replace the choice of the k greatest of each token by one threshold for all latents.

    The result is a JumpReLU SAE that encodes as a BatchTopK SAE does at inference. Two things
    change against TopK: the number of active latents differs from token to token, k being their
    mean where the threshold is that of `inference_threshold`; and a latent no longer competes with
    the others, so that its activation follows from the token alone.

    Parameters
    ----------
    sae
        Of any architecture; meant for TopK.
    threshold
        A latent is active above it.
    """
    if not np.isfinite(threshold):
        raise StudyError(f"threshold: {threshold:g} is not a finite number; give one")
    limits = torch.full_like(sae.b_enc, threshold)
    return replace(sae, architecture="jumprelu", threshold=limits, k=None)


def inference_threshold(sae: SAE, x: Tensor) -> float:
    """Threshold above which k latents of a token are active on average.

    Parameters
    ----------
    sae
        An SAE with `k` (TopK).
    x : (token, d_model)
        Tokens that the mean is taken over; those that the SAE was trained on, or the like.

    Returns
    -------
    float
        Midway between the k · n_tokens greatest pre-activations and the next, so that rounding
        moves none of them across; 0 where fewer are positive.

    Raises
    ------
    StudyError
        If the SAE has no k.
    """
    if not sae.k:
        raise StudyError("the SAE has no k; only that of a TopK SAE tells its threshold")
    x = arrays.floats("x", x, "token", "d_model").to(sae.W_enc)
    n = sae.k * len(x)
    # The n + 1 greatest so far; once there are as many, others count only above the least.
    greatest = x.new_zeros(0)
    floor = 0.0
    for block in x.split(max(1, _ELEMENTS // sae.d_sae)):
        pre = sae.pre_activations(block)
        greatest = torch.cat([greatest, pre[pre > floor]])
        if len(greatest) > n:
            greatest = greatest.topk(n + 1, sorted=False).values
            floor = greatest.min().item()
    if len(greatest) <= n:
        return 0.0
    return greatest.topk(2, largest=False).values.double().mean().item()


def save_stitched(
    stitched: StitchedSAE, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``saes/<sae>.h5`` as `save_sae` does, and where each latent comes from.

    The datasets ``source`` (d_sae) text and ``latent`` (d_sae) int32 stand beside the weights.
    """
    source = np.char.encode(stitched.source, "utf-8")
    rows = {
        "source": source.astype(h5py.string_dtype("utf-8", source.dtype.itemsize)),
        "latent": stitched.latent.astype(np.int32),
    }
    save_sae(stitched.sae, path, rows=rows, study=study, provenance=provenance)


def load_origins(path: str | Path, *, study: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read where the latents of a stitched SAE come from.

    Returns
    -------
    source : (d_sae) str
    latent : (d_sae) int64

    Raises
    ------
    StudyError
        If the SAE is not a stitched one.
    """
    with open_record(StoredSAE, path, study=study) as stored:
        if stored.source is None or stored.latent is None:
            raise StudyError(f"{path}: source is missing; delete it and run again")
        source = np.char.decode(stored.source[...].astype(bytes), "utf-8")
        return source, stored.latent[...].astype(np.int64)

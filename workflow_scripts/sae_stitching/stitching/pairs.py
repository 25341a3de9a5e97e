"""Two SAEs and the eval tokens that they are compared on, in memory or stored by a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sae_stitching.activations.shards import Activations, ActivationShards
from sae_stitching.base.errors import StudyError
from sae_stitching.saes import normalization
from sae_stitching.saes.encoding import StoredCodes, open_codes
from sae_stitching.saes.sae import SAE, Decoder, load_decoder, taken_in
from sae_stitching.sparse.codes import SparseCodes

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class EvalBlock:
    """Tokens of whole sequences, with their activations and both SAEs' codes.

    Where the SAEs normalise each token, `x` is less what they take out, the codes are those of `x`,
    and b_dec is `scale` times as large on each token, see `normalization`.
    """

    x: Float[Tensor, "token d_model"]
    sequence: Int[Tensor, " token"]
    codes_small: SparseCodes
    codes_large: SparseCodes
    scale: Float[Tensor, " token"] | None = None

    def denormalized(self, normalize: str | None) -> EvalBlock:
        """The same of raw activations, and codes of what SAEs made of them that normalise so."""
        if normalize is None:
            return self
        x, scale = normalization.centred(self.x.double(), normalize)
        small, large = self.codes_small, self.codes_large
        codes = (normalization.scaled(codes.double(), scale) for codes in (small, large))
        return EvalBlock(x, self.sequence, *codes, scale=scale)


@dataclass(frozen=True)
class EvalPair:
    """Two SAEs and the eval tokens that they are compared on.

    Attributes
    ----------
    small, large : SAE or Decoder
        Of each only the decoder is used; in float64 it is not copied.
    blocks : callable
        Returns an iterator over the eval tokens in blocks of whole sequences.
    n_tokens : int

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, EvalPair
    >>> W_dec = torch.eye(2)
    >>> large = SAE(W_dec.T, W_dec, torch.zeros(2), torch.zeros(2), "relu")
    >>> small = SAE(W_dec[:, :1], W_dec[:1], torch.zeros(1), torch.zeros(2), "relu")
    >>> pair = EvalPair.in_memory(small, large, torch.ones(3, 2), torch.tensor([0, 0, 1]))
    >>> [(block.codes_small.to_dense().sum(1) > 0).tolist() for block in pair.blocks()]
    [[True, True, True]]
    """

    small: SAE | Decoder
    large: SAE | Decoder
    blocks: Callable[[], Iterator[EvalBlock]]
    n_tokens: int

    @classmethod
    def in_memory(
        cls,
        small: SAE,
        large: SAE,
        x: Float[Tensor, "token d_model"],
        sequence: Int[Tensor, " token"],
    ) -> EvalPair:
        """Compare on activations in memory.

        Parameters
        ----------
        small, large : SAE
        x : (token, d_model)
            Tensor or NumPy array.
        sequence : (token) int
            Sequence of each token; tokens of one sequence are consecutive. Standard errors are
            clustered by it.

        Raises
        ------
        StudyError
            If the shapes do not fit together, or a number is not finite, or the SAEs differ in how
            they normalise each token.
        """
        activations = Activations(x, sequence)
        small, large = taken_in(small, "small"), taken_in(large, "large")
        codes = (sae.encode(activations.x) for sae in (small, large))
        return cls.stored(small, large, activations, *codes)

    @classmethod
    def stored(
        cls,
        small: SAE | Decoder,
        large: SAE | Decoder,
        activations: Activations | ActivationShards,
        codes_small: SparseCodes | StoredCodes,
        codes_large: SparseCodes | StoredCodes,
    ) -> EvalPair:
        """Compare on cached activations and stored codes, a block at a time.

        Parameters
        ----------
        small, large : SAE or Decoder
        activations
            On disk, or in memory.
        codes_small, codes_large
            Of each SAE over all these tokens.

        Raises
        ------
        StudyError
            If the codes and the activations differ in number of tokens, or the SAEs in how they
            normalise each token.
        """
        normalize = normalization.shared({"small": small.normalize, "large": large.normalize})
        for side, codes in (("small", codes_small), ("large", codes_large)):
            if codes.n_tokens != activations.n_tokens:
                path = getattr(codes, "path", None)
                remedy = "delete it and run again" if path else "encode these activations"
                raise StudyError(
                    f"{path or f'codes_{side}'}: codes of {codes.n_tokens} tokens, but activations "
                    f"of {activations.n_tokens}; {remedy}"
                )

        def blocks() -> Iterator[EvalBlock]:
            for block in activations.blocks():
                end = block.start + len(block.activations)
                raw = EvalBlock(
                    block.activations,
                    block.sequence,
                    codes_small.tokens(block.start, end),
                    codes_large.tokens(block.start, end),
                )
                yield raw.denormalized(normalize)

        return cls(small, large, blocks, activations.n_tokens)


@contextmanager
def open_pair(files: Any, *, study: str | None = None) -> Iterator[EvalPair]:
    """Open a pair from its files.

    Parameters
    ----------
    files
        Has the attributes `small`, `large` (SAE files), `codes_small`, `codes_large`, and
        `activations` (the eval shards, in order).
    study
        Study that they must belong to; any by default.

    Raises
    ------
    StudyError
        If a file is missing, damaged or of another study, or the codes are not those of the SAEs
        or of the activations, or the SAEs differ in how they normalise each token.
    """
    with ExitStack() as stack:
        small, large = (
            load_decoder(path, study=study, double=True) for path in (files.small, files.large)
        )
        normalization.shared({files.small: small.normalize, files.large: large.normalize})
        yield EvalPair.stored(
            small,
            large,
            ActivationShards(files.activations, study=study),
            stack.enter_context(open_codes(files.codes_small, small, study=study)),
            stack.enter_context(open_codes(files.codes_large, large, study=study)),
        )

"""Two random SAEs and the tokens that they are compared on, for brute force."""

from dataclasses import dataclass
from functools import partial

import torch
from helpers.oracle import Stitched, random_sae
from hypothesis import strategies as st
from sae_stitching.matching.decoder_similarity import Similarity, similarity
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.stitching.pairs import EvalBlock, EvalPair


@dataclass
class Case:
    """Two random SAEs and the tokens that they are compared on."""

    pair: EvalPair
    x: torch.Tensor
    sequence: torch.Tensor

    @property
    def stitched(self) -> Stitched:
        return Stitched(self.pair.small, self.pair.large, self.x)

    @property
    def similarity(self) -> Similarity:
        return similarity(self.pair.small.W_dec, self.pair.large.W_dec, floor=-1.0)

    def subgraphs(self, theta):
        return connected_subgraphs(self.similarity, theta)


def make_case(
    seed, architectures, d_small, d_large, d_model, lengths, applies, blocks=0, normalize=None
):
    generator = torch.Generator().manual_seed(seed)
    small, large = (
        random_sae(
            generator, d_model, d, architecture, apply_b_dec_to_input=applies, normalize=normalize
        )
        for d, architecture in zip((d_small, d_large), architectures, strict=True)
    )
    # Some latents in common, so that there are subgraphs worth the name.
    shared = min(d_small, d_large) // 2
    large.W_dec[:shared] = small.W_dec[:shared] + 0.1 * large.W_dec[:shared]
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    x = 2.0 * torch.randn(len(sequence), d_model, generator=generator, dtype=torch.float64)
    if normalize is not None:
        # Tokens of many sizes, which a norm makes alike, about a mean.
        x *= torch.exp(torch.randn(len(sequence), 1, generator=generator, dtype=torch.float64))
        x += 1.5
    pair = EvalPair.in_memory(small, large, x, sequence)
    if blocks:
        pair = in_blocks(pair, x, sequence, blocks)
    return Case(pair, x, sequence)


def in_blocks(pair, x, sequence, n_sequences):
    """The same pair with its tokens in blocks of this many sequences."""
    small, large = pair.small, pair.large
    blocks = partial(_blocks, small, large, x, sequence, n_sequences)
    return EvalPair(small, large, blocks, len(x))


def _blocks(small, large, x, sequence, n_sequences):
    for names in sequence.unique().split(n_sequences):
        part = torch.isin(sequence, names)
        codes = small.encode(x[part]), large.encode(x[part])
        yield EvalBlock(x[part], sequence[part], *codes).denormalized(small.normalize)


cases = st.builds(
    make_case,
    seed=st.integers(0, 2**32 - 1),
    architectures=st.tuples(*2 * [st.sampled_from(sorted(ARCHITECTURES))]),
    d_small=st.integers(1, 9),
    d_large=st.integers(1, 14),
    d_model=st.integers(2, 7),
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    applies=st.booleans(),
    blocks=st.integers(0, 2),
    normalize=st.sampled_from([None, *NORMALIZATIONS]),
)

thetas = st.floats(-0.9, 1.0)

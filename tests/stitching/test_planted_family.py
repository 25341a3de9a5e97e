"""A family of dictionaries whose novel latents and connected subgraphs are known.

The features are orthonormal, up to those that split. The larger dictionary holds, in random
order, five latents of the smaller, two and three nearby directions in place of two more, and six
directions of its own; one latent of the smaller dictionary has no counterpart. The tokens are
made of the larger one's features. So the larger SAE reconstructs them exactly, and all that the
smaller misses are the novel latents and the part of the split ones that points away from their
parents.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.shards import HOOK, write_shards
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity, write_similarity
from sae_stitching.matching.subgraphs import connected_subgraphs, load_subgraphs
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate
from sae_stitching.saes.sae import SAE, save_sae
from sae_stitching.stitching.insertions import insertion_effects, load_insertions
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transitions import DROP, INSERT, START, SWAP, transition

D_MODEL = 24
# Latents of the smaller SAE by what becomes of them, and the novel ones of the larger.
COPIED, SPLIT, DROPPED = (0, 1, 2, 3, 4), {5: 2, 6: 3}, 7
D_SMALL, N_NOVEL = 8, 6
COSINE = 0.9  # of a split latent to its parent
LENGTHS, CONTEXT = [640, 960], 32
ORIGIN = {"study": "test", "provenance": {}}


def dictionaries(generator):
    """Both decoders, and the parent of each latent of the larger: −1 where it is novel."""
    basis = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=generator).double()).Q.T
    small, spare = basis[:D_SMALL], iter(basis[D_SMALL:])
    rows = [(parent, small[parent]) for parent in COPIED]
    for parent, children in SPLIT.items():
        # Around the parent, as far from each other as may be.
        away = [next(spare) for _ in range(children - 1)]
        for angle in torch.arange(children) * 2 * torch.pi / children:
            directions = [torch.cos(angle), torch.sin(angle)][: children - 1]
            around = sum(a * direction for a, direction in zip(directions, away, strict=True))
            rows.append((parent, COSINE * small[parent] + np.sqrt(1 - COSINE**2) * around))
    rows += [(-1, next(spare)) for _ in range(N_NOVEL)]
    order = torch.randperm(len(rows), generator=generator).tolist()
    parents = np.array([rows[i][0] for i in order])
    return small.float(), torch.stack([rows[i][1] for i in order]).float(), parents


def sae(W_dec, b_dec):
    """An SAE that finds the features of its decoder exactly, and no others."""
    W_enc = torch.linalg.pinv(W_dec.double()).float()
    b_enc = torch.full((len(W_dec),), -1e-4)  # Rounding makes no latent active.
    return SAE(W_enc, W_dec, b_enc, b_dec, "relu", hook=HOOK)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Run the stages from activations to insertions, through files as the workflow does."""
    folder = tmp_path_factory.mktemp("family")
    generator = torch.Generator().manual_seed(0)
    W_small, W_large, parents = dictionaries(generator)
    b_dec = torch.randn(D_MODEL, generator=generator)
    n_tokens = sum(LENGTHS)
    f = torch.rand(n_tokens, len(W_large), generator=generator) < 0.2
    f = f * (1.0 + torch.rand(f.shape, generator=generator))
    x = f @ W_large + b_dec
    shards = write_shards(folder / "activations", x, LENGTHS, context=CONTEXT)
    saes = {"small": sae(W_small, b_dec), "large": sae(W_large, b_dec)}
    files = SimpleNamespace(activations=shards.paths)
    for name, its_sae in saes.items():
        setattr(files, name, folder / f"{name}.h5")
        setattr(files, f"codes_{name}", folder / f"codes_{name}.h5")
        save_sae(its_sae, getattr(files, name), **ORIGIN)
        encode_shards(its_sae, shards.paths, getattr(files, f"codes_{name}"), **ORIGIN)
    options = {"floor": 0.3, "full_matrix_mb": 1}
    write_similarity(saes["small"], saes["large"], folder / "similarity.h5", **options, **ORIGIN)
    similarity = load_similarity(folder / "similarity.h5", study="test")
    subgraphs = connected_subgraphs(similarity, 0.7)
    write_record(subgraphs, folder / "subgraphs.h5", **ORIGIN)
    with open_pair(files, study="test") as pair:
        found = insertion_effects(pair, similarity)
    write_record(found, folder / "insertions.h5", **ORIGIN)
    return SimpleNamespace(
        **saes,
        x=x,
        f=f,
        parents=parents,
        shards=shards,
        files=files,
        similarity=similarity,
        subgraphs=load_subgraphs(folder / "subgraphs.h5", study="test"),
        insertions=load_insertions(folder / "insertions.h5", study="test"),
    )


def test_the_larger_sae_finds_the_planted_features(family):
    with open_codes(family.files.codes_large, family.large) as codes:
        found = codes.tokens(0, len(family.x)).to_dense()
        row = evaluate(family.large, family.shards, codes)
    torch.testing.assert_close(found, family.f, rtol=0, atol=1e-3)
    assert torch.equal(found > 0, family.f > 0)
    assert row["fvu"] < 1e-6
    assert row["n_live"] == len(family.parents)


def test_novel_latents_come_out_as_planted(family):
    np.testing.assert_array_equal(family.subgraphs.novel, family.parents < 0)
    expected = np.where(np.isin(family.parents, COPIED), 1.0, COSINE)
    expected[family.parents < 0] = 0.0
    np.testing.assert_allclose(family.similarity.max_cosine_large, expected, atol=1e-6)
    present = family.parents >= 0
    np.testing.assert_array_equal(family.similarity.argmax_large[present], family.parents[present])


def test_connected_subgraphs_come_out_as_planted(family):
    found = family.subgraphs
    # One a latent of the smaller SAE that has partners, numbered in its order.
    assert found.component_small.tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    np.testing.assert_array_equal(found.component_large, family.parents)
    sizes = np.bincount(found.component_large[~found.novel])
    assert sizes.tolist() == [1] * 5 + list(SPLIT.values())


def test_a_threshold_above_the_split_latents_makes_them_novel(family):
    found = connected_subgraphs(family.similarity, 0.95)
    split = np.isin(family.parents, list(SPLIT))
    np.testing.assert_array_equal(found.novel, split | (family.parents < 0))
    assert found.n_components == len(COPIED)


def test_inserting_novel_latents_lowers_the_mse_and_copies_raise_it(family):
    delta = family.insertions.delta_mse
    novel = family.parents < 0
    assert (delta[novel] < 0).all()
    assert (delta[~novel] > 0).all()
    # A latent alone: what it adds is its whole share of the tokens, or the same once too often.
    energy = family.f.double().square().mean(0).numpy() / D_MODEL
    copied = np.isin(family.parents, COPIED)
    np.testing.assert_allclose(delta[novel], -energy[novel], rtol=1e-2)
    np.testing.assert_allclose(delta[copied], energy[copied], rtol=1e-2)
    assert (family.insertions.n_active == (family.f > 0).sum(0).numpy()).all()
    assert (np.abs(delta) > 3 * family.insertions.standard_error).all()


def test_the_max_cosine_tells_them_apart(family):
    roc = novelty_roc(family.insertions, bootstrap_samples=50)
    assert roc.auc == 1.0
    assert roc.at(0.7) == (0.0, 1.0)


def test_the_best_threshold_lies_between_novel_and_split_latents(family):
    with open_pair(family.files) as pair:
        curve = threshold_curve(pair, family.similarity)
    novel = family.parents < 0
    cosine = family.similarity.max_cosine_large
    assert cosine[novel].max() < curve.best <= cosine[~novel].min()
    assert curve.n_inserted[curve.mse.argmin()] == N_NOVEL
    np.testing.assert_allclose(curve.mse[0], family.insertions.mse_small)
    gained = family.insertions.delta_mse[novel].sum()
    np.testing.assert_allclose(curve.mse.min(), family.insertions.mse_small + gained, rtol=1e-6)


def test_swapping_copies_changes_nothing_and_splits_help(family):
    with open_pair(family.files) as pair:
        swaps = swap_effects(pair, family.subgraphs)
    scale = family.insertions.mse_small
    np.testing.assert_allclose(swaps.delta_mse[: len(COPIED)], 0.0, atol=1e-3 * scale)
    assert (swaps.delta_mse[len(COPIED) :] < -1e-2 * scale).all()


def test_the_transition_ends_at_nothing_left_to_explain(family):
    with open_pair(family.files) as pair:
        path = transition(pair, family.subgraphs)
    n_swaps = len(COPIED) + len(SPLIT)
    assert path.kind.tolist() == [START] + [INSERT] * N_NOVEL + [SWAP] * n_swaps + [DROP]
    assert (np.diff(path.mse[: N_NOVEL + 1]) < 0).all()
    # Nothing that follows takes the MSE up again by more than rounding.
    assert (np.diff(path.mse[N_NOVEL:]) < 1e-3 * path.mse[0]).all()
    assert path.mse[-1] < 1e-6 * path.mse[0]
    assert path.n_latents[[0, N_NOVEL, -1]].tolist() == [8, 14, len(family.parents)]

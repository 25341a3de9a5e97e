"""Stitched SAEs against their members' own codes and Eq. 5, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oracle import dense_codes, random_sae, read
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.formats.pretrained import load_sae
from sae_stitching.formats.saelens import export_saelens
from sae_stitching.matching.decoder_similarity import similarity
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae import load_decoder, read_sae, save_sae
from sae_stitching.stitching import stitched as stitched_module
from sae_stitching.stitching.effects import cumulative_effects
from sae_stitching.stitching.greedy import greedy_latents
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.recipe import stitch_recipe
from sae_stitching.stitching.stitched import (
    StitchedSAE,
    inference_threshold,
    load_origins,
    save_stitched,
    with_threshold,
)
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.transitions import transition_operations

exact = {"rtol": 1e-9, "atol": 1e-11}
close = {"rtol": 1e-6, "atol": 1e-10}


def make(seed, architectures, d_model, n_tokens, applies, normalize=None):
    """SAEs of these architectures, TopK with a threshold, and tokens."""
    generator = torch.Generator().manual_seed(seed)
    x = 2.0 * torch.randn(n_tokens, d_model, generator=generator, dtype=torch.float64)
    saes = []
    for number, architecture in enumerate(architectures):
        d_sae = int(torch.randint(1, 12, (1,), generator=generator))
        sae = random_sae(
            generator,
            d_model,
            d_sae,
            architecture,
            apply_b_dec_to_input=applies[number % 2],
            normalize=normalize,
        )
        if architecture == "topk":
            sae = with_threshold(sae, inference_threshold(sae, x))
        saes.append(sae)
    return saes, x


makes = st.builds(
    make,
    seed=st.integers(0, 2**32 - 1),
    architectures=st.lists(st.sampled_from(sorted(ARCHITECTURES)), min_size=2, max_size=4),
    d_model=st.integers(2, 7),
    n_tokens=st.integers(1, 30),
    applies=st.tuples(st.booleans(), st.booleans()),
    normalize=st.sampled_from([None, *NORMALIZATIONS]),
)


def drawn(data, d_sae):
    return data.draw(st.lists(st.sampled_from(range(d_sae)), unique=True, max_size=d_sae))


@settings(max_examples=80, deadline=None)
@given(made=makes, data=st.data())
def test_it_is_its_members_latents_under_equation_5(made, data):
    (first, *others), x = made
    stitched, origins, b_dec = StitchedSAE.of(first, "0"), [], first.b_dec
    origins = [("0", i) for i in range(first.d_sae)]
    for number, sae in enumerate(others, start=1):
        latents = drawn(data, sae.d_sae)
        mask = np.isin(np.arange(sae.d_sae), latents)
        use_mask = data.draw(st.booleans())
        # Eq. 5, with what there is as the smaller SAE.
        alpha = len(origins) / (len(origins) + len(latents))
        b_dec = alpha * b_dec + (1 - alpha) * sae.b_dec
        stitched = stitched.insert(sae, mask if use_mask else latents, str(number))
        order = np.flatnonzero(mask).tolist() if use_mask else latents
        origins += [(str(number), i) for i in order]
    assert list(zip(stitched.source, stitched.latent, strict=True)) == origins
    result, members = stitched.sae, [first, *others]
    torch.testing.assert_close(result.b_dec, b_dec, **exact)
    codes = [dense_codes(sae, x) for sae in members]
    f = torch.stack([codes[int(name)][:, i] for name, i in origins], dim=1)
    torch.testing.assert_close(result.encode(x).to_dense(), f, **exact)
    x_hat = b_dec + sum(
        f[:, j, None] * members[int(name)].W_dec[i] for j, (name, i) in enumerate(origins)
    )
    _, scale, mean = read(first, x)
    torch.testing.assert_close(result.decode(result.encode(x), x), scale * x_hat + mean, **exact)
    assert not result.apply_b_dec_to_input
    used = {members[int(name)].architecture for name, _ in origins}
    assert result.architecture == ("relu" if used == {"relu"} else "jumprelu")


@settings(max_examples=60, deadline=None)
@given(made=makes, data=st.data())
def test_the_order_and_grouping_of_operations_do_not_matter(made, data):
    (first, second, *_), _ = made
    latents = drawn(data, second.d_sae)
    cut = data.draw(st.integers(0, len(latents)))
    gone = drawn(data, first.d_sae)
    if len(gone) == first.d_sae and not latents:
        gone = gone[1:]
    stitched = StitchedSAE.of(first, "a")
    at_once = stitched.insert(second, latents, "b").remove(gone).sae
    in_parts = (
        stitched.remove(gone).insert(second, latents[:cut], "b").insert(second, latents[cut:], "b")
    ).sae
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        torch.testing.assert_close(getattr(at_once, name), getattr(in_parts, name), **exact)
    assert at_once.architecture == in_parts.architecture
    # Nothing was done to what was begun with.
    assert stitched.d_sae == first.d_sae and (stitched.source == "a").all()


@settings(max_examples=40, deadline=None)
@given(made=makes)
def test_all_of_one_sae_and_nothing_else_is_that_sae(made):
    (small, large, *_), x = made
    stitched = StitchedSAE.of(small, "small").insert(large, range(large.d_sae), "large")
    result = stitched.remove(stitched.source == "small").sae
    torch.testing.assert_close(result.b_dec, large.b_dec, **exact)
    codes, own = result.encode(x), large.encode(x)
    torch.testing.assert_close(codes.to_dense(), own.to_dense(), **exact)
    torch.testing.assert_close(result.decode(codes, x), large.decode(own, x), **exact)


def mse(sae, x):
    return (x - sae.decode(sae.encode(x), x)).square().mean().item()


def pair_of(made):
    (small, large, *_), x = made
    return EvalPair.in_memory(small, large, x, torch.arange(len(x)) // 3), x


def effects_of(pair):
    return insertion_effects(pair, similarity(pair.small.W_dec, pair.large.W_dec, floor=2.0))


def subgraphs_of(pair, theta):
    found = similarity(pair.small.W_dec, pair.large.W_dec, floor=-1.0)
    return connected_subgraphs(found, theta)


@settings(max_examples=40, deadline=None)
@given(made=makes, theta=st.floats(-0.5, 0.9))
def test_it_has_the_mse_that_the_effects_say(made, theta):
    pair, x = pair_of(made)
    effects, stitched = effects_of(pair), StitchedSAE.of(pair.small, "small")
    for i, effect in enumerate(effects.delta_mse):
        inserted = stitched.insert(pair.large, [i], "large").sae
        np.testing.assert_allclose(mse(inserted, x) - effects.mse_small, effect, **close)
    subgraphs = subgraphs_of(pair, theta)
    swaps = swap_effects(pair, subgraphs)
    for c, effect in enumerate(swaps.delta_mse):
        swapped = stitched.swap(pair.large, subgraphs, [c], name="large").sae
        np.testing.assert_allclose(mse(swapped, x) - swaps.mse_small, effect, **close)
    # All novel latents, then all swaps: so far a transition goes before it drops latents.
    operations, kinds = transition_operations(subgraphs)
    path = cumulative_effects(pair, operations)
    novel = stitched.insert(pair.large, subgraphs.novel, "large")
    np.testing.assert_allclose(mse(novel.sae, x), path.mse[subgraphs.novel.sum()], **close)
    at = int((kinds < 3).sum())
    if path.n_latents[at]:
        both = stitched.swap(pair.large, subgraphs, name="large").insert(
            pair.large, subgraphs.novel, "large"
        )
        assert both.d_sae == path.n_latents[at]
        np.testing.assert_allclose(mse(both.sae, x), path.mse[at], **close)
        l0 = len(both.sae.encode(x)) / len(x)
        np.testing.assert_allclose(l0, path.l0[at], **close)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_tokens=st.integers(1, 40),
    d_sae=st.integers(1, 9),
    elements=st.sampled_from([1, 7, 1 << 20]),
)
def test_the_threshold_of_topk_keeps_k_on_average(seed, n_tokens, d_sae, elements):
    generator = torch.Generator().manual_seed(seed)
    sae = random_sae(generator, 4, d_sae, "topk")
    x = torch.randn(n_tokens, 4, generator=generator, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stitched_module, "_ELEMENTS", elements)
        threshold = inference_threshold(sae, x)
    pre = sae.pre_activations(x)
    n_positive, wanted = int((pre > 0).sum()), sae.k * n_tokens
    assert len(with_threshold(sae, threshold).encode(x)) == min(wanted, n_positive)
    assert (threshold == 0) == (n_positive <= wanted)


def test_with_a_threshold_an_sae_encodes_as_batchtopk():
    sae = random_sae(torch.Generator().manual_seed(0), 5, 12, "topk")
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    changed = with_threshold(sae, 0.3)
    expected = torch.where(sae.pre_activations(x) > 0.3, sae.pre_activations(x), 0.0)
    torch.testing.assert_close(changed.encode(x).to_dense(), expected)
    assert len(changed.encode(x).pattern.indptr.diff().unique()) > 1  # L0 varies by token


def test_a_negative_threshold_is_none():
    relu, other = (
        random_sae(torch.Generator().manual_seed(s), 4, 6, a)
        for s, a in enumerate(("relu", "batchtopk"))
    )
    other = replace(other, threshold=torch.full((6,), -2.0, dtype=torch.float64))
    result = StitchedSAE.of(relu, "a").insert(other, range(6), "b").sae
    assert result.threshold is not None and (result.threshold == 0).all()


def test_single_precision_stays():
    saes = [
        random_sae(torch.Generator().manual_seed(s), 4, 6, "relu", dtype=torch.float32)
        for s in range(2)
    ]
    stitched = StitchedSAE.of(saes[0], "a").insert(saes[1], [1, 2], "b")
    assert stitched.sae.W_enc.dtype == stitched.sae.b_dec.dtype == torch.float32
    wide = StitchedSAE.of(saes[0].double(), "a").insert(saes[1].double(), [1, 2], "b").sae
    assert torch.equal(stitched.sae.b_enc, wide.b_enc.float())  # folded in float64


ERRORS = {
    "number beyond": (
        lambda s, large: s.insert(large, [0, 9], "large"),
        "latents: there is no latent 9 in SAE large, which has 9",
    ),
    "negative number": (lambda s, _: s.remove([-1]), "no latent -1 in the stitched SAE"),
    "twice": (lambda s, large: s.insert(large, [3, 1, 3], "large"), "latent 3 is given twice"),
    "in already": (
        lambda s, large: s.insert(large, [3], "large").insert(large, [2, 3], "large"),
        "SAE large: its latent 3 is in already; leave it out",
    ),
    "mask of another length": (
        lambda s, large: s.insert(large, np.ones(8, bool), "large"),
        "a mask of shape (8,) for the 9 latents of SAE large",
    ),
    "no numbers": (lambda s, _: s.remove([0.5]), "give a list of whole numbers, or a mask"),
    "another SAE of the name": (
        lambda s, large: s.insert(large, [3], "small"),
        "SAE small: another SAE of this name is in; choose another name",
    ),
    "topk": (
        lambda s, large: s.insert(
            replace(large, architecture="topk", k=2, threshold=None), [0], "large"
        ),
        "SAE large: which of its latents are active depends on all of them (TopK)",
    ),
    "another d_model": (
        lambda s, _: s.insert(random_sae(torch.Generator(), 3, 4, "relu"), [0], "b"),
        "SAE b: reads activations of d_model 3, but small of 4",
    ),
    "another hook": (
        lambda s, large: s.insert(replace(large, hook="blocks.2.hook_resid_pre"), [0], "large"),
        "SAE large: was trained on blocks.2.hook_resid_pre, the others on blocks.1.hook_resid_pre",
    ),
    "another norm": (
        lambda s, large: s.insert(replace(large, normalize="layer_norm"), [0], "large"),
        "SAE large: normalises each token by layer_norm, but small by nothing; compare SAEs of one",
    ),
    "no latent left": (lambda s, _: s.remove(range(6)).sae, "the stitched SAE has no latent"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_stitched_is_said(case):
    action, message = ERRORS[case]
    generator = torch.Generator().manual_seed(0)
    small = replace(random_sae(generator, 4, 6, "relu"), hook="blocks.1.hook_resid_pre")
    large = random_sae(generator, 4, 9, "relu")
    with pytest.raises(StudyError) as caught:
        action(StitchedSAE.of(small, "small"), large)
    assert message in str(caught.value)


def test_subgraphs_have_to_fit():
    (small, large), x = make(3, ("relu", "relu"), 3, 5, (True, True))
    pair = EvalPair.in_memory(small, large, x, torch.arange(5))
    subgraphs = subgraphs_of(pair, 0.3)
    stitched = StitchedSAE.of(small, "small")
    n = subgraphs.n_components
    with pytest.raises(
        StudyError, match=f"no connected subgraph {n} at θ 0.3; the last is {n - 1}"
    ):
        stitched.swap(large, subgraphs, [0, n], name="large")
    changed = stitched.insert(large, [0], "large")
    with pytest.raises(StudyError, match=f"but these have {small.d_sae + 1} and {large.d_sae}"):
        changed.swap(large, subgraphs, name="large")


@pytest.fixture
def stored(tmp_path):
    (a, b, c), x = make(7, ("relu", "batchtopk", "gated"), 4, 60, (True, False))
    saes = [replace(sae, hook="blocks.1.hook_resid_pre", model="m") for sae in (a, b, c)]
    stitched = StitchedSAE.of(saes[0], "8").insert(saes[1], [0], "ä-16").insert(saes[2], [0], "c")
    save_stitched(stitched, tmp_path / "s.h5", study="test", provenance={})
    return stitched, x, tmp_path / "s.h5"


def test_its_file_is_that_of_an_sae_and_says_where_latents_come_from(stored):
    stitched, _, path = stored
    sae, expected = read_sae(path, study="test"), stitched.sae
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
        assert torch.equal(getattr(sae, name), getattr(expected, name).float())
    assert (sae.architecture, sae.hook, sae.model) == ("jumprelu", "blocks.1.hook_resid_pre", "m")
    assert torch.equal(load_decoder(path).W_dec, sae.W_dec)
    source, latent = load_origins(path, study="test")
    assert source.tolist() == stitched.source.tolist() and "ä-16" in source
    np.testing.assert_array_equal(latent, stitched.latent)
    plain = path.with_name("plain.h5")
    save_sae(expected, plain, study="test", provenance={})
    with pytest.raises(StudyError, match="source is missing"):
        load_origins(plain)


def test_exported_it_reads_back(stored):
    stitched, x, path = stored
    export_saelens(read_sae(path), path.parent / "export")
    back, expected = load_sae(path.parent / "export"), read_sae(path)
    codes = back.encode(x.float())
    assert torch.equal(codes.to_dense(), expected.encode(x.float()).to_dense())
    assert torch.equal(back.decode(codes), expected.decode(expected.encode(x.float())))
    np.testing.assert_allclose(mse(back, x.float()), mse(stitched.sae, x), rtol=1e-4)


# Recipes


def kitchen(architecture="relu", seed=1):
    generator = torch.Generator().manual_seed(seed)
    small, middle, large = (random_sae(generator, 9, d, architecture) for d in (6, 10, 16))
    middle.W_dec[:4] = small.W_dec[:4] + 0.2 * middle.W_dec[:4]
    large.W_dec[:6] = middle.W_dec[4:] + 0.2 * large.W_dec[:6]
    x = 2.0 * torch.randn(90, 9, generator=generator, dtype=torch.float64)
    return {"small": small, "middle": middle, "large": large}, (x, torch.arange(90) // 10)


def recipe(swap=(), insert=()):
    swaps = [{"threshold": 0.5, "components": "all", **entry} for entry in swap]
    inserts = [{"threshold": None, "n": None, **entry} for entry in insert]
    return {"name": "it", "base": "small", "swap": swaps, "insert": inserts}


def origins(stitched, name):
    return stitched.latent[stitched.source == name].tolist()


def test_novel_latents_are_novel_to_all_that_are_in():
    saes, _ = kitchen()
    inserts = [
        {"sae": "middle", "select": "novel", "threshold": 0.6},
        {"sae": "large", "select": "novel"},
    ]
    stitched = stitch_recipe(recipe(insert=inserts), saes, None, {"large": 0.5})
    unit = {name: sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True) for name, sae in saes.items()}
    middle = (unit["middle"] @ unit["small"].T).max(1).values < 0.6
    there = torch.cat([unit["small"], unit["middle"][middle]])
    large = (unit["large"] @ there.T).max(1).values < 0.5
    assert origins(stitched, "middle") == middle.nonzero().squeeze(1).tolist()
    assert origins(stitched, "large") == large.nonzero().squeeze(1).tolist()
    assert 0 < large.sum() < 16 and 0 < middle.sum() < 10
    assert list(stitched.source[:6]) == ["small"] * 6


@pytest.mark.parametrize("n", [None, 3])
def test_effect_and_greedy_go_by_what_is_in_already(n):
    saes, tokens = kitchen()
    inserts = [{"sae": "middle", "select": "effect", "n": n}]
    stitched = stitch_recipe(recipe(insert=inserts), saes, tokens)
    pair = EvalPair.in_memory(saes["small"], saes["middle"], *tokens)
    effects = effects_of(pair).delta_mse
    expected = np.argsort(effects, kind="stable")[: n or (effects < 0).sum()]
    assert origins(stitched, "middle") == expected.tolist() and len(expected) > 0

    inserts.append({"sae": "large", "select": "greedy", "n": n})
    inserts.append({"sae": "middle", "select": "greedy", "n": 1})
    more = stitch_recipe(recipe(insert=inserts), saes, tokens)
    pair = EvalPair.in_memory(stitched.sae, saes["large"], *tokens)
    greedy = greedy_latents(pair, n).latents
    assert origins(more, "large") == greedy.tolist()
    # The last one is not among those that are in already.
    assert len(set(origins(more, "middle"))) == len(expected) + 1


def test_swaps_come_first_and_may_be_chosen():
    saes, tokens = kitchen()
    pair = EvalPair.in_memory(saes["small"], saes["middle"], *tokens)
    subgraphs = subgraphs_of(pair, 0.5)
    effects = swap_effects(pair, subgraphs).delta_mse
    improving = np.flatnonzero(effects < 0)
    assert 0 < len(improving) < subgraphs.n_components
    for components, chosen in (
        ("all", np.arange(subgraphs.n_components)),
        ("improving", improving),
        ([1, 0], np.array([0, 1])),
    ):
        entry = {"sae": "middle", "components": components}
        inserts = [{"sae": "middle", "select": "novel", "threshold": 1.0}]
        stitched = stitch_recipe(recipe([entry], inserts), saes, tokens)
        gone = np.isin(subgraphs.component_small, chosen)
        assert origins(stitched, "small") == np.flatnonzero(~gone).tolist()
        come = np.flatnonzero(np.isin(subgraphs.component_large, chosen)).tolist()
        found = origins(stitched, "middle")
        assert found[: len(come)] == come
        # Then all others, but not once more those that the swap brought.
        assert sorted(found) == list(range(10))


def test_a_subgraph_that_there_is_not_is_named():
    saes, tokens = kitchen()
    entry = {"sae": "middle", "components": [0, 40], "threshold": 0.5}
    with pytest.raises(StudyError, match=r"stitched, it, swap\[0\]: SAE middle: .* subgraph 40 at"):
        stitch_recipe(recipe([entry]), saes, tokens)


def test_topk_members_get_a_threshold_from_the_tokens(caplog):
    caplog.set_level("INFO")
    saes, tokens = kitchen("topk")
    inserts = [{"sae": "middle", "select": "greedy", "n": 4}]
    stitched = stitch_recipe(recipe(insert=inserts), saes, tokens)
    expected = inference_threshold(saes["small"], tokens[0])
    assert stitched.sae.threshold is not None
    np.testing.assert_allclose(stitched.sae.threshold[:6], expected)
    assert "small: TopK with k 1, active above" in caplog.text
    assert "insert middle: 4 of its 10 latents, by greedy" in caplog.text


def test_more_latents_than_there_are_is_a_warning(caplog):
    saes, tokens = kitchen()
    saes["middle"].b_enc[2:] = -1e6  # never active
    inserts = [{"sae": "middle", "select": select, "n": 2} for select in ("effect", "greedy")]
    stitched = stitch_recipe(recipe(insert=inserts), saes, tokens)
    assert sorted(origins(stitched, "middle")) == [0, 1]
    assert "insert middle: 0 latents instead of 2" in caplog.text

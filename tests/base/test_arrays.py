"""Arrays from a notebook: taken in as they are, or named in one line."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oracle import random_sae
from sae_stitching import (
    SAE,
    Activations,
    EvalPair,
    StitchedSAE,
    connected_subgraphs,
    evaluate,
    greedy_latents,
    inference_threshold,
    insertion_effects,
    novel_latents,
    similarity,
    with_threshold,
)
from sae_stitching.base.errors import StudyError

D_MODEL, D_SMALL, D_LARGE = 8, 6, 10
GENERATOR = torch.Generator().manual_seed(0)
SMALL = random_sae(GENERATOR, D_MODEL, D_SMALL, "relu", dtype=torch.float32)
LARGE = random_sae(GENERATOR, D_MODEL, D_LARGE, "relu", dtype=torch.float32)
X = torch.randn(40, D_MODEL, generator=GENERATOR)
SEQUENCE = torch.arange(40) // 8


def effects(small=SMALL, large=LARGE, x=X, sequence=SEQUENCE) -> np.ndarray:
    pair = EvalPair.in_memory(small, large, x, sequence)
    found = similarity(pair.small.W_dec, pair.large.W_dec, floor=0.1)
    return insertion_effects(pair, found).delta_mse


def changed(tensor: torch.Tensor, value: float, *place: int) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


def each(sae: SAE, function) -> SAE:
    """The SAE with all of its tensors changed."""
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    return replace(sae, **{name: function(getattr(sae, name)) for name in names})


EXPECTED = effects()

ACCEPTED = {
    "NumPy": lambda t: t.numpy(),
    "with a gradient": lambda t: t.clone().requires_grad_(),
    "a parameter": torch.nn.Parameter,
    "float64": torch.Tensor.double,
    "NumPy float64": lambda t: t.double().numpy(),
    "another byte order": lambda t: t.numpy().astype(">f4"),
    "columns first": lambda t: torch.from_numpy(np.asfortranarray(t.numpy())),
    "not contiguous": lambda t: t.repeat_interleave(2, 0)[::2],
    "backwards twice": lambda t: t.flip(0).numpy()[::-1],
    "read-only": lambda t: np.frombuffer(t.numpy().tobytes(), "f4").reshape(t.shape),
    "a list": lambda t: t.double().tolist(),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_activations_and_saes_are_taken_in(kind):
    change = ACCEPTED[kind]
    np.testing.assert_array_equal(effects(x=change(X)), EXPECTED)
    found = effects(each(SMALL, change), each(LARGE, change))
    # In float64 codes differ in their last bits.
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_what_it_is_in_full(dtype):
    x = X.to(dtype)
    np.testing.assert_array_equal(effects(x=x), effects(x=x.float()))
    small, large = (each(sae, lambda t: t.to(dtype)) for sae in (SMALL, LARGE))
    full = (each(sae, torch.Tensor.float) for sae in (small, large))
    np.testing.assert_array_equal(effects(small, large), effects(*full))


@pytest.mark.parametrize("sequence", [SEQUENCE.numpy(), SEQUENCE.int(), SEQUENCE.tolist()])
def test_sequences_are_taken_in(sequence):
    np.testing.assert_array_equal(effects(sequence=sequence), EXPECTED)


FLOAT = "expected floating point; convert it, e.g. with .float()"
FINITE = "only finite numbers can be used"
SHAPES = (
    "activations: shape {}, sequence {}, expected (token, d_model) and (token) of one token or more"
)
REFUSED = [
    ({"x": changed(X, torch.nan, 3, 5)}, f"x: is nan at [3, 5]; {FINITE}"),
    ({"x": changed(X, torch.inf, 0, 0)}, f"x: is inf at [0, 0]; {FINITE}"),
    ({"x": changed(X, -torch.inf, 39, 7).numpy()}, f"x: is -inf at [39, 7]; {FINITE}"),
    ({"x": X.long()}, f"x: is of type int64, {FLOAT}"),
    ({"x": X > 0}, f"x: is of type bool, {FLOAT}"),
    ({"x": X.to(torch.complex64)}, f"x: is of type complex64, {FLOAT}"),
    ({"x": "text"}, "x: is str, expected a tensor or an array of numbers"),
    ({"x": None}, "x: is NoneType, expected a tensor or an array of numbers"),
    ({"x": [[1.0], [1.0, 2.0]]}, "x: is list, expected a tensor or an array of numbers"),
    ({"x": X.to_sparse()}, "x: is sparse_coo; give it as a dense array (.to_dense())"),
    ({"x": X[0]}, SHAPES.format((8,), (40,))),
    ({"x": X[:0], "sequence": SEQUENCE[:0]}, SHAPES.format((0, 8), (0,))),
    ({"x": X[None]}, SHAPES.format((1, 40, 8), (40,))),
    ({"x": X[:39]}, SHAPES.format((39, 8), (40,))),
    ({"x": X[:, :7]}, "activations: shape (40, 7), but the SAE reads (token, 8); is it for this "
     "model?"),
    ({"sequence": SEQUENCE.float()}, "sequence: is of type float32, expected whole numbers"),
    ({"sequence": SEQUENCE > 2}, "sequence: is of type bool, expected whole numbers"),
    (
        {"sequence": SEQUENCE.flip(0) % 2},
        "activations: a sequence is interrupted by another; put the tokens of each sequence beside "
        "each other",
    ),
    (
        {"small": replace(SMALL, W_dec=changed(SMALL.W_dec, torch.nan, 2, 1))},
        f"small.W_dec: is nan at [2, 1]; {FINITE}",
    ),
    (
        {"large": replace(LARGE, b_enc=LARGE.b_enc[1:])},
        "large: b_enc has shape (9,), expected (10,)",
    ),
    (
        {"small": replace(SMALL, W_enc=SMALL.W_enc.T)},
        "small: W_enc has shape (6, 8), expected (8, 6)",
    ),
    (
        {"large": replace(LARGE, W_enc=LARGE.W_enc.long())},
        f"large.W_enc: is of type int64, {FLOAT}",
    ),
    ({"small": replace(SMALL, architecture="topk")}, "small: architecture topk needs k"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_what_cannot_be_used_is_named(change, message):
    with pytest.raises(StudyError) as error:
        effects(**change)
    assert str(error.value) == message


NAN = torch.nan
PAIR = EvalPair.in_memory(SMALL, LARGE, X, SEQUENCE)
SIMILARITY = similarity(SMALL.W_dec, LARGE.W_dec, floor=0.1)
TOPK = replace(LARGE, architecture="topk", k=2)
CALLS = [
    (lambda: SMALL.encode(changed(X, NAN, 1, 1)), f"x: is nan at [1, 1]; {FINITE}"),
    (lambda: SMALL.encode(X.int()), f"x: is of type int32, {FLOAT}"),
    (
        lambda: Activations(changed(X, NAN, 1, 1), SEQUENCE),
        f"x: is nan at [1, 1]; {FINITE}",
    ),
    (
        lambda: similarity(changed(SMALL.W_dec, NAN, 0, 2), LARGE.W_dec, floor=0.1),
        f"W_small: is nan at [0, 2]; {FINITE}",
    ),
    (
        lambda: similarity(SMALL.W_dec, LARGE.W_dec[0], floor=0.1),
        "W_large: has shape (8,), expected (d_large, d_model) of one or more",
    ),
    (
        lambda: similarity(SMALL.W_dec[:0], LARGE.W_dec, floor=0.1),
        "W_small: has shape (0, 8), expected (d_small, d_model) of one or more",
    ),
    (
        lambda: connected_subgraphs(SIMILARITY, NAN),
        "stitching.threshold: nan is below similarity.floor 0.1, under which no edges are kept; "
        "lower the floor",
    ),
    (
        lambda: novel_latents(np.float32([0.1, np.nan]), 0.5),
        f"max_cosine: is nan at [1]; {FINITE}",
    ),
    (
        lambda: greedy_latents(PAIR, candidates=[0, 3]),
        "candidates: shape (2,) for a larger SAE of 10 latents",
    ),
    (
        lambda: greedy_latents(PAIR, candidates=np.arange(10)),
        "candidates: are of type int64, expected a mask of true and false",
    ),
    (
        lambda: StitchedSAE.of(SMALL, "a").insert(LARGE, [0.5], "b"),
        "latents: give a list of whole numbers, or a mask",
    ),
    (
        lambda: StitchedSAE.of(SMALL, "a").insert(LARGE, ["0"], "b"),
        "latents: is list, expected a tensor or an array of numbers",
    ),
    (lambda: inference_threshold(TOPK, changed(X, NAN, 0, 0)), f"x: is nan at [0, 0]; {FINITE}"),
    (
        lambda: inference_threshold(TOPK, X[:0]),
        "x: has shape (0, 8), expected (token, d_model) of one or more",
    ),
    (lambda: with_threshold(TOPK, NAN), "threshold: nan is not a finite number; give one"),
    (
        lambda: EvalPair.stored(
            SMALL, LARGE, Activations(X, SEQUENCE), SMALL.encode(X[:9]), LARGE.encode(X)
        ),
        "codes_small: codes of 9 tokens, but activations of 40; encode these activations",
    ),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[m[:40] for _, m in CALLS])
def test_every_public_function_names_it(call, message):
    with pytest.raises(StudyError) as error:
        call()
    assert str(error.value) == message


def test_public_functions_take_numpy_in():
    x, sequence = X.numpy(), SEQUENCE.numpy()
    row = evaluate(SMALL, Activations(x, sequence), SMALL.encode(x))
    assert row == evaluate(SMALL, Activations(X, SEQUENCE), SMALL.encode(X))
    found = similarity(SMALL.W_dec.numpy(), LARGE.W_dec.double().requires_grad_(), floor=0.1)
    np.testing.assert_allclose(found.max_cosine_large, SIMILARITY.max_cosine_large, atol=1e-6)
    assert inference_threshold(TOPK, x) == inference_threshold(TOPK, X)
    mask = torch.arange(D_LARGE) < 5
    one, other = (greedy_latents(PAIR, candidates=part) for part in (mask, mask.tolist()))
    np.testing.assert_array_equal(one.latents, other.latents)


def test_what_is_given_is_not_changed():
    kept = X.clone().requires_grad_()
    effects(x=kept, small=each(SMALL, torch.nn.Parameter))
    assert kept.requires_grad and torch.equal(kept, X)

"""Cross-entropy with spliced reconstructions, against plain transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.corpus import write_corpus
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.base.errors import StudyError
from sae_stitching.saes.cross_entropy import cross_entropies, eval_sequences
from sae_stitching.saes.sae import SAE
from sae_stitching.text.sources import make_random_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

D_MODEL, CONTEXT, HOOK = 32, 24, "blocks.1.hook_resid_pre"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "gpt2"
    source = {"architecture": "gpt2", "n_layers": 2, "d_model": D_MODEL, "n_heads": 2,
              "context": CONTEXT, "seed": 0}  # fmt: skip
    make_random_model(source, path)
    return str(path)


@pytest.fixture(scope="module")
def model(folder):
    return LanguageModel(folder, HOOK, dtype="float32")


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (5, CONTEXT), generator=torch.Generator().manual_seed(0))


def sae(W_dec, b_dec, hook=HOOK):
    """An SAE that reads x and −x, so that an identity can be built of it."""
    eye = torch.eye(D_MODEL)
    return SAE(torch.cat([eye, -eye], 1), W_dec, torch.zeros(2 * D_MODEL), b_dec, "relu",
               apply_b_dec_to_input=False, hook=hook)  # fmt: skip


def saes(mean):
    eye, none = torch.eye(D_MODEL), torch.zeros(2 * D_MODEL, D_MODEL)
    return {
        "identity": sae(torch.cat([eye, -eye]), torch.zeros(D_MODEL)),
        "zero": sae(none, torch.zeros(D_MODEL)),
        "mean": sae(none, mean),
        "half": sae(0.5 * torch.cat([eye, -eye]), torch.zeros(D_MODEL)),
        # The half of each token that is not its mean.
        "half of z": replace(
            sae(0.5 * torch.cat([eye, -eye]), torch.zeros(D_MODEL)), normalize="layer_norm"
        ),
    }


def plain(folder, tokens, first, change=None):
    """Cross-entropy by transformers alone, with other activations before block 1."""
    hf = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")

    def hook(_, args):
        x = args[0].clone()
        x[:, first:] = change(x[:, first:])
        return (x, *args[1:])

    if change is not None:
        hf.transformer.h[1].register_forward_pre_hook(hook)
    with torch.inference_mode():
        logits = hf(tokens).logits
    return cross_entropy(logits[:, first:-1].flatten(0, 1), tokens[:, first + 1 :].flatten()).item()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("per_batch", [1, 100])
def test_cross_entropies_are_those_of_transformers(
    model, folder, tokens, first, per_batch, monkeypatch
):
    monkeypatch.setattr(
        "sae_stitching.saes.cross_entropy._LOGITS", per_batch * CONTEXT * model.d_vocab
    )
    mean = torch.linspace(-0.3, 0.4, D_MODEL)
    rows = cross_entropies(model, tokens, saes(mean), mean, skip_first_position=bool(first))
    by_name = {row["sae"]: row for row in rows}
    clean = plain(folder, tokens, first)
    zero = plain(folder, tokens, first, torch.zeros_like)
    ablated = plain(folder, tokens, first, lambda x: mean.expand_as(x))
    half = plain(folder, tokens, first, lambda x: 0.5 * x)
    for row in rows:
        assert row["ce_clean"] == pytest.approx(clean, rel=1e-5)
        assert row["ce_zero"] == pytest.approx(zero, rel=1e-5)
        assert row["ce_mean"] == pytest.approx(ablated, rel=1e-5)
        assert row["ce_tokens"] == len(tokens) * (CONTEXT - 1 - first)
    halved = plain(folder, tokens, first, lambda x: 0.5 * (x + x.mean(-1, keepdim=True)))
    expected = {
        "identity": clean,
        "zero": zero,
        "mean": ablated,
        "half": half,
        "half of z": halved,
    }
    for name, ce in expected.items():
        row = by_name[name]
        assert row["ce"] == pytest.approx(ce, rel=1e-5)
        recovered = (zero - ce) / (zero - clean)
        assert row["ce_recovered_zero"] == pytest.approx(recovered, rel=1e-3, abs=1e-3)
        recovered = (ablated - ce) / (ablated - clean)
        assert row["ce_recovered_mean"] == pytest.approx(recovered, rel=1e-3, abs=1e-3)
    # The model's own norms do not see the mean that one of the halves keeps.
    assert len({round(ce, 4) for ce in expected.values()}) == 4


def test_the_model_is_left_as_it_was(model, tokens):
    before = model.logits(tokens)
    changed = model.logits(tokens, torch.zeros_like)
    assert not torch.allclose(before, changed)
    assert torch.equal(model.logits(tokens), before)


def test_an_sae_of_another_hook(model, tokens):
    other = sae(torch.zeros(2 * D_MODEL, D_MODEL), torch.zeros(D_MODEL), "blocks.0.hook_mlp_out")
    with pytest.raises(StudyError, match=r"trained on blocks\.0\.hook_mlp_out, not on blocks\.1"):
        cross_entropies(model, tokens, {"a": other}, torch.zeros(D_MODEL), skip_first_position=True)


def test_nothing_to_predict(model, tokens):
    with pytest.raises(StudyError, match=r"tokens\.context: too short"):
        cross_entropies(model, tokens[:, :2], {}, torch.zeros(D_MODEL), skip_first_position=True)


@pytest.mark.parametrize(("wanted", "chosen"), [(1, [0]), (40, [0, 8, 15]), (999, list(range(16)))])
def test_eval_sequences_stand_at_equal_distances(tmp_path, wanted, chosen):
    tokens = np.arange(16 * 15).reshape(16, 15)
    write_corpus(tmp_path / "t.h5", eval=tokens, train=tokens[:1])
    found = eval_sequences(tmp_path / "t.h5", wanted, study="test")
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found, tokens[chosen])

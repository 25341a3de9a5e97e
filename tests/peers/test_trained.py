"""SAEs that SAELens trains go through the library from end to end, and a stitched one goes back.

make test-peers
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

sae_lens = pytest.importorskip("sae_lens", reason="needs SAELens; run make test-peers")

import sae_stitching as st  # noqa: E402
import torch  # noqa: E402
from helpers.oracle import Stitched  # noqa: E402
from sae_lens.config import LoggingConfig, SAETrainerConfig  # noqa: E402
from sae_lens.saes.sae import SAEMetadata  # noqa: E402
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402
from torch import Tensor  # noqa: E402

D_MODEL, FEATURES, TOKENS, CONTEXT = 32, 64, 8192, 16
SIZES = {"small": 24, "large": 48}
STEPS, BATCH = 400, 512
KINDS = {
    "standard": (
        sae_lens.StandardTrainingSAE,
        sae_lens.StandardTrainingSAEConfig,
        {"l1_coefficient": 0.3},
    ),
    "batchtopk": (
        sae_lens.BatchTopKTrainingSAE,
        sae_lens.BatchTopKTrainingSAEConfig,
        {"k": 4},
    ),
}
HOOK = "blocks.8.hook_resid_pre"


def planted(n_tokens: int, seed: int) -> Tensor:
    """Sparse sums of fixed directions."""
    directions = torch.randn(FEATURES, D_MODEL, generator=torch.Generator().manual_seed(0))
    directions /= directions.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(n_tokens, FEATURES, generator=generator) < 3 / FEATURES
    return (active * (1 + torch.rand(active.shape, generator=generator))) @ directions


def trained(architecture: str, d_sae: int, folder: Path) -> Any:
    """Train with SAELens' own trainer, save, and give back what SAELens loads."""
    torch.manual_seed(d_sae)
    kind, config, options = KINDS[architecture]
    metadata = SAEMetadata(hook_name=HOOK, model_name="gpt2-small")
    sae = kind(config(d_in=D_MODEL, d_sae=d_sae, metadata=metadata, **options))
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            total_training_samples=STEPS * BATCH,
            device="cpu",
            autocast=False,
            lr=3e-3,
            lr_end=0.0,
            lr_scheduler_name="constant",
            lr_warm_up_steps=20,
            lr_decay_steps=100,
            n_restart_cycles=1,
            adam_beta1=0.9,
            adam_beta2=0.999,
            train_batch_size_samples=BATCH,
            dead_feature_window=1000,
            feature_sampling_window=2000,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=iter(()),
    )
    with torch.enable_grad():
        for step in range(STEPS):
            trainer.step(planted(BATCH, 1000 + step))
            trainer.n_training_steps += 1
    sae.save_inference_model(folder)
    return sae_lens.SAE.load_from_disk(folder)


@pytest.fixture(scope="module", params=KINDS)
def family(request, tmp_path_factory) -> dict[str, Any]:
    """Both SAEs, as SAELens has them and as this library does, and tokens."""
    found: dict[str, Any] = {"x": planted(TOKENS, 1), "sequence": torch.arange(TOKENS) // CONTEXT}
    for name, d_sae in SIZES.items():
        folder = tmp_path_factory.mktemp(name)
        found[f"theirs_{name}"] = trained(request.param, d_sae, folder)
        found[name] = st.load_sae(folder)
    return found


def fvu(x: Tensor, x_hat: Tensor) -> float:
    return ((x - x_hat).square().sum() / (x - x.mean(0)).square().sum()).item()


@torch.no_grad()
def test_codes_and_properties_are_those_of_saelens(family):
    x = family["x"]
    for name in SIZES:
        ours, theirs = family[name], family[f"theirs_{name}"]
        codes, expected = ours.encode(x), theirs.encode(x)
        torch.testing.assert_close(codes.to_dense(), expected, rtol=1e-4, atol=1e-4)
        row = st.evaluate(ours, st.Activations(x, family["sequence"]), codes)
        assert row["fvu"] == pytest.approx(fvu(x, theirs.decode(expected)), rel=1e-3)
        assert row["l0"] == pytest.approx((expected > 0).sum().item() / len(x), rel=1e-3)
        # They have learned something: the tests below are of SAEs, not of noise.
        assert row["fvu"] < 0.8 and row["l0"] < 16


@torch.no_grad()
def test_the_whole_library_runs_on_them(family):
    x, small, large = family["x"], family["small"], family["large"]
    pair = st.EvalPair.in_memory(small, large, x, family["sequence"])
    compared = st.similarity(small.W_dec, large.W_dec, floor=0.2)
    subgraphs = st.connected_subgraphs(compared, 0.7)
    assert 0 < subgraphs.novel.sum() < large.d_sae
    assert subgraphs.n_components > 0

    insertions = st.insertion_effects(pair, compared)
    # What SAELens itself reconstructs is the measure of both MSEs.
    for name, mse in (("small", insertions.mse_small), ("large", insertions.mse_large)):
        theirs = family[f"theirs_{name}"]
        assert mse == pytest.approx((x - theirs(x)).square().mean().item(), rel=1e-3)
    brute = Stitched(small.double(), large.double(), x.double())
    whole, none = np.ones(small.d_sae, bool), np.zeros(large.d_sae, bool)
    base = brute.mse(whole, none)
    for latent in (0, 17, 47):
        one = none.copy()
        one[latent] = True
        expected = brute.mse(whole, one) - base
        assert insertions.delta_mse[latent] == pytest.approx(expected, rel=1e-3, abs=1e-6)

    roc = st.novelty_roc(insertions, bootstrap_samples=20)
    assert roc.n_positive + roc.n_negative + roc.n_never_active == large.d_sae
    swaps = st.swap_effects(pair, subgraphs)
    assert len(swaps.delta_mse) == subgraphs.n_components
    curve = st.threshold_curve(pair, compared)
    assert curve.mse.min() <= curve.mse[0] == pytest.approx(insertions.mse_small)
    step = st.transition(pair, subgraphs)
    assert step.mse[-1] == pytest.approx(insertions.mse_large, rel=1e-6)
    st.figure4(insertions, 0.7, small="24", large="48")
    st.figure5(st.figure5_table({("24", "48"): step}))


@torch.no_grad()
def test_a_stitched_sae_goes_back_to_saelens(family, tmp_path):
    stitched = pytest.importorskip("sae_stitching.stitching.stitched")
    x, small, large = family["x"], family["small"], family["large"]
    novel = st.novel_latents(
        st.similarity(small.W_dec, large.W_dec, floor=0.2).max_cosine_large, 0.7
    )
    made = stitched.StitchedSAE.of(small, "small").insert(large, novel, "large").sae
    st.export_saelens(made, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.d_sae == small.d_sae + novel.sum()
    assert theirs.cfg.metadata.hook_name == HOOK
    # Eq. 5 by its definition, from the codes that SAELens has of the two SAEs it trained.
    codes = {name: family[f"theirs_{name}"].encode(x) for name in SIZES}
    chosen = torch.from_numpy(novel)
    alpha = small.d_sae / (small.d_sae + novel.sum())
    expected = alpha * small.b_dec + (1 - alpha) * large.b_dec
    expected = expected + codes["small"] @ small.W_dec
    expected = expected + codes["large"][:, chosen] @ large.W_dec[chosen]
    torch.testing.assert_close(theirs(x), expected.float(), rtol=1e-3, atol=1e-3)
    l0 = (codes["small"] > 0).sum() + (codes["large"][:, chosen] > 0).sum()
    assert (theirs.encode(x) > 0).sum().item() == pytest.approx(l0.item(), rel=1e-3)

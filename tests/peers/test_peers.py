"""Files that the real SAELens, dictionary_learning and sparsify write and read, against ours.

    make test-peers

These libraries have an environment of their own (benchmarks/requirements.txt), since SAELens needs
an older TransformerLens than the workflow. Gemma Scope has no library of its own: SAELens reads its
files, so its reader is the judge of ours.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REASON = "needs SAELens, dictionary_learning and sparsify; run make test-peers"
sae_lens = pytest.importorskip("sae_lens", reason=REASON)
dictionary_learning = pytest.importorskip("dictionary_learning", reason=REASON)
sparsify = pytest.importorskip("sparsify", reason=REASON)

import torch  # noqa: E402
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer  # noqa: E402
from dictionary_learning.trainers.gdm import GatedSAETrainer  # noqa: E402
from dictionary_learning.trainers.jumprelu import JumpReluTrainer  # noqa: E402
from dictionary_learning.trainers.matryoshka_batch_top_k import (  # noqa: E402
    MatryoshkaBatchTopKTrainer,
)
from dictionary_learning.trainers.standard import (  # noqa: E402
    StandardTrainer,
    StandardTrainerAprilUpdate,
)
from dictionary_learning.trainers.top_k import TopKTrainer  # noqa: E402
from dictionary_learning.training import trainSAE  # noqa: E402
from dictionary_learning.utils import load_dictionary  # noqa: E402
from helpers.oracle import random_sae  # noqa: E402
from helpers.peers import D_MODEL, D_SAE, TOLERANCE, K, check, inputs  # noqa: E402
from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: E402
from sae_lens.saes.sae import SAEMetadata  # noqa: E402
from sae_stitching.activations.shards import Activations  # noqa: E402
from sae_stitching.base.errors import StudyError  # noqa: E402
from sae_stitching.formats import saelens  # noqa: E402
from sae_stitching.formats.pretrained import load_sae  # noqa: E402
from sae_stitching.saes.architectures import ARCHITECTURES  # noqa: E402
from sae_stitching.saes.evaluation import evaluate  # noqa: E402
from sae_stitching.saes.normalization import NORMALIZATIONS  # noqa: E402
from sae_stitching.stitching.stitched import (  # noqa: E402
    StitchedSAE,
    inference_threshold,
    with_threshold,
)
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402

HOOK = "blocks.8.hook_resid_pre"


@pytest.fixture(autouse=True)
def fixed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def randomise(module: torch.nn.Module, spread: float = 0.4) -> None:
    """Give every parameter values of its own, so that none could be left out or mistaken."""
    for parameter in module.parameters():
        parameter.data += spread * torch.randn_like(parameter)


# SAELens writes, we read

INFERENCE = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig),
}


def config(kind: Any, **options: Any) -> Any:
    metadata = SAEMetadata(hook_name=HOOK, model_name="gpt2-small")
    return kind(d_in=D_MODEL, d_sae=D_SAE, metadata=metadata, **options)


def of_saelens(architecture: str, **options: Any) -> Any:
    kind, config_kind = INFERENCE[architecture]
    if architecture == "topk":
        options = {"k": K, **options}
    sae = kind(config(config_kind, **options))
    randomise(sae)
    return sae


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", INFERENCE)
def test_saelens_writes_and_we_read(tmp_path, architecture, applies):
    theirs = of_saelens(architecture, apply_b_dec_to_input=applies)
    theirs.save_model(tmp_path)
    ours = load_sae(tmp_path)
    assert ours.hook == HOOK
    check(ours, theirs.encode, theirs.decode)


def test_saelens_topk_rescaled_by_decoder_norm(tmp_path):
    theirs = of_saelens("topk", rescale_acts_by_decoder_norm=True)
    theirs.save_model(tmp_path)
    check(load_sae(tmp_path), theirs.encode, theirs.decode)


TRAINING = {
    "standard": (sae_lens.StandardTrainingSAE, sae_lens.StandardTrainingSAEConfig, {}),
    "topk": (sae_lens.TopKTrainingSAE, sae_lens.TopKTrainingSAEConfig, {"k": K}),
    "batchtopk": (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig, {"k": K}),
    "matryoshka_batchtopk": (
        sae_lens.MatryoshkaBatchTopKTrainingSAE,
        sae_lens.MatryoshkaBatchTopKTrainingSAEConfig,
        {"k": K, "matryoshka_widths": [16, D_SAE]},
    ),
    "jumprelu": (sae_lens.JumpReLUTrainingSAE, sae_lens.JumpReLUTrainingSAEConfig, {}),
    "gated": (sae_lens.GatedTrainingSAE, sae_lens.GatedTrainingSAEConfig, {}),
}


@pytest.mark.parametrize("architecture", TRAINING)
def test_saelens_writes_after_training_and_we_read(tmp_path, architecture):
    kind, config_kind, options = TRAINING[architecture]
    trained = kind(config(config_kind, **options))
    randomise(trained)
    if hasattr(trained, "topk_threshold"):
        trained.topk_threshold = torch.tensor(1.5, dtype=torch.double)
    trained.save_inference_model(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    ours = load_sae(tmp_path)
    if "batchtopk" in architecture:
        assert ours.architecture == "jumprelu"
        assert ours.threshold is not None and bool((ours.threshold == 1.5).all())
    check(ours, theirs.encode, theirs.decode)


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", INFERENCE)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_norms_of_each_token_are_read_and_written(tmp_path, normalization, architecture, applies):
    options = {"normalize_activations": normalization, "apply_b_dec_to_input": applies}
    theirs = of_saelens(architecture, **options)
    theirs.save_model(tmp_path / "theirs")
    ours = load_sae(tmp_path / "theirs")
    check(ours, theirs.encode, theirs.decode)
    # Tokens of any size and mean, whose errors are the raw ones.
    x = inputs() * torch.linspace(0.01, 30, len(inputs()))[:, None] + 1.5
    codes, sequence = ours.encode(x), torch.arange(len(x))
    x_hat, size = theirs(x), x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours.decode(codes, x) / size, x_hat / size, **TOLERANCE)
    mse = (x - x_hat).square().mean().item()
    assert evaluate(ours, Activations(x, sequence), codes)["mse"] == pytest.approx(mse, rel=1e-5)
    saelens.export_saelens(ours, tmp_path / "ours")
    again = sae_lens.SAE.load_from_disk(tmp_path / "ours")
    assert again.cfg.normalize_activations == normalization
    check(ours, again.encode, again.decode)


@pytest.mark.parametrize("normalization", ["expected_average_only_in", "covariance_whitening"])
def test_normalisations_of_saelens_are_refused_by_name(tmp_path, normalization):
    of_saelens("standard", normalize_activations=normalization).save_model(tmp_path)
    with pytest.raises(StudyError, match=f"normalize_activations is '{normalization}'"):
        load_sae(tmp_path)


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
@pytest.mark.parametrize("fold", ["scale", "whitening"])
def test_normalisations_that_saelens_folded_are_read(tmp_path, architecture, applies, fold):
    theirs = of_saelens(architecture, apply_b_dec_to_input=applies)
    if fold == "scale":
        theirs.fold_activation_norm_scaling_factor(0.7)
    else:
        matrix = torch.eye(D_MODEL) + 0.05 * torch.randn(D_MODEL, D_MODEL)
        theirs.fold_activation_whitening(torch.randn(D_MODEL), matrix, matrix.inverse())
    theirs.save_model(tmp_path)
    check(load_sae(tmp_path), theirs.encode, theirs.decode)


def test_decoder_norms_that_saelens_folded_are_read(tmp_path):
    theirs = of_saelens("jumprelu")
    theirs.fold_W_dec_norm()
    theirs.save_model(tmp_path)
    check(load_sae(tmp_path), theirs.encode, theirs.decode)


# The format before version 6. No such SAELens can be installed beside the new one, so the settings
# are those of the paper's published SAEs, whose cfg.json is known, and the new SAELens reads them.

OLD: dict[str, Any] = {
    "model_name": "gpt2-small",
    "hook_point": HOOK,
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "context_size": 128,
    "d_in": D_MODEL,
    "d_sae": D_SAE,
    "dtype": "float32",
    "device": "cpu",
    "b_dec_init_method": "geometric_median",
    "l1_coefficient": 8e-05,
    "use_ghost_grads": True,
}
OLDER = {
    "standard": ("standard", {}),
    "scaling_factor": ("standard", {}),
    "a later version": ("standard", {"architecture": "standard", "sae_lens_version": "5.10.7"}),
    "normalisation as a flag": ("standard", {"normalize_activations": False}),
    "b_dec left in": ("standard", {"apply_b_dec_to_input": False}),
    "topk": ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
    "topk, renamed": ("topk", {"activation_fn": "topk", "activation_fn_kwargs": {"k": K}}),
    "jumprelu": ("jumprelu", {"architecture": "jumprelu"}),
    "gated": ("gated", {"architecture": "gated"}),
}


@pytest.mark.parametrize("case", OLDER)
def test_older_saelens_folders(tmp_path, case):
    architecture, changes = OLDER[case]
    tensors = of_saelens(architecture).state_dict()
    if case == "scaling_factor":
        tensors["scaling_factor"] = torch.ones(D_SAE)
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({**OLD, **changes}))
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    ours = load_sae(tmp_path)
    assert ours.hook == HOOK == theirs.cfg.metadata.hook_name
    # What the paper's SAEs do without saying so.
    assert ours.apply_b_dec_to_input == theirs.cfg.apply_b_dec_to_input
    assert theirs.cfg.apply_b_dec_to_input == changes.get("apply_b_dec_to_input", True)
    check(ours, theirs.encode, theirs.decode)


# We write, SAELens reads


def test_we_stitch_and_saelens_reads(tmp_path):
    generator = torch.Generator().manual_seed(3)
    of = {"relu": True, "topk": True, "batchtopk": False, "gated": True}
    for names in (("relu", "relu"), tuple(of)):
        saes = [
            random_sae(
                generator, D_MODEL, D_SAE, name, apply_b_dec_to_input=of[name], dtype=torch.float32
            )
            for name in names
        ]
        saes = [
            with_threshold(sae, inference_threshold(sae, inputs())) if name == "topk" else sae
            for name, sae in zip(names, saes, strict=True)
        ]
        stitched = StitchedSAE.of(replace(saes[0], hook=HOOK), "0")
        for number, sae in enumerate(saes[1:], start=1):
            stitched = stitched.insert(sae, range(0, D_SAE, 2), str(number))
        ours = stitched.remove(range(5)).sae
        folder = tmp_path / "-".join(names)
        saelens.export_saelens(ours, folder)
        theirs = sae_lens.SAE.load_from_disk(folder)
        assert theirs.cfg.d_sae == ours.d_sae == D_SAE // 2 * (len(names) + 1) - 5
        assert theirs.cfg.architecture() == ("standard" if len(names) == 2 else "jumprelu")
        assert not theirs.cfg.apply_b_dec_to_input
        check(ours, theirs.encode, theirs.decode)


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_we_write_and_saelens_reads(tmp_path, architecture, applies):
    generator = torch.Generator().manual_seed(3)
    ours = random_sae(
        generator,
        D_MODEL,
        D_SAE,
        architecture,
        apply_b_dec_to_input=applies,
        dtype=torch.float32,
    )
    metadata = {
        "context_size": 128,
        "prepend_bos": True,
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    saelens.export_saelens(ours, tmp_path, **metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # how the model is to be loaded
        theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.context_size == 128
    assert theirs.cfg.metadata.model_from_pretrained_kwargs == {"center_writing_weights": True}
    check(ours, theirs.encode, theirs.decode)
    # And once round: SAELens writes what it read, and we read that.
    theirs.save_model(tmp_path / "again")
    check(load_sae(tmp_path / "again"), theirs.encode, theirs.decode)


# Gemma Scope


@pytest.mark.parametrize("prefix", ["W_", "w_"])
def test_gemma_scope(tmp_path, monkeypatch, prefix):
    theirs = of_saelens("jumprelu", apply_b_dec_to_input=False)
    tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    repo, name = "google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_41"
    folder = tmp_path / repo / name
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{key.replace("W_", prefix): t for key, t in tensors.items()})

    def local(*, repo_id: str, filename: str, subfolder: str, **_: Any) -> str:
        return str(tmp_path / repo_id / subfolder / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", local)
    settings, state, _ = loaders.gemma_2_sae_huggingface_loader(repo, name)
    settings |= {"d_in": D_MODEL, "d_sae": D_SAE}
    reread = sae_lens.JumpReLUSAE.from_dict(loaders.handle_config_defaulting(settings))
    reread.load_state_dict(state)
    assert not reread.cfg.apply_b_dec_to_input
    ours = load_sae(folder)
    assert ours.hook == reread.cfg.metadata.hook_name == "blocks.12.hook_resid_post"
    check(ours, reread.encode, reread.decode)


# dictionary_learning writes, we read

TRAINERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "AutoEncoder": (StandardTrainer, {}),
    "April's AutoEncoder": (StandardTrainerAprilUpdate, {}),
    "GatedAutoEncoder": (GatedSAETrainer, {}),
    "AutoEncoderTopK": (TopKTrainer, {"k": K}),
    "BatchTopKSAE": (BatchTopKTrainer, {"k": K, "threshold_start_step": 2}),
    "MatryoshkaBatchTopKSAE": (
        MatryoshkaBatchTopKTrainer,
        {"k": K, "threshold_start_step": 2, "group_fractions": [0.25, 0.75]},
    ),
    "JumpReluAutoEncoder": (JumpReluTrainer, {"target_l0": 5.0}),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_dictionary_learning_writes_and_we_read(tmp_path, name):
    trainer, options = TRAINERS[name]
    settings = {
        "trainer": trainer,
        "steps": 12,
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "layer": 7,
        "lm_name": "somebody/gpt2",
        "submodule_name": "resid_post_layer_7",
        "device": "cpu",
        "warmup_steps": 2,
        **options,
    }
    if trainer not in (
        TopKTrainer,
        BatchTopKTrainer,
        MatryoshkaBatchTopKTrainer,
    ):
        settings["sparsity_warmup_steps"] = 2
    with torch.enable_grad():
        data = iter([torch.randn(128, D_MODEL) for _ in range(20)])
        trainSAE(data, [settings], steps=12, save_dir=str(tmp_path), device="cpu")
    folder = tmp_path / "trainer_0"
    # As it was written, and with weights that a long training might have.
    for spread in (0.0, 0.3):
        state = torch.load(folder / "ae.pt")
        for value in state.values():
            if value.is_floating_point() and value.ndim:
                value += spread * torch.randn_like(value)
        torch.save(state, folder / "ae.pt")
        theirs, _ = load_dictionary(str(folder), device="cpu")
        ours = load_sae(folder)
        assert (ours.hook, ours.model) == ("blocks.7.hook_resid_post", "somebody/gpt2")
        check(ours, theirs.encode, theirs.decode)


def test_dictionary_learning_of_another_class(tmp_path):
    theirs = dictionary_learning.dictionary.AutoEncoderNew(D_MODEL, D_SAE)
    randomise(theirs, 0.2)
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": "AutoEncoderNew", "activation_dim": D_MODEL, "dict_size": D_SAE}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    check(load_sae(tmp_path), theirs.encode, theirs.decode)


# sparsify writes, we read


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [{"num_latents": D_SAE}, {"expansion_factor": 3}])
def test_sparsify_writes_and_we_read(tmp_path, size, normalize):
    settings = sparsify.SparseCoderConfig(k=K, normalize_decoder=normalize, **size)
    written = sparsify.SparseCoder(D_MODEL, settings)
    randomise(written, 0.2)
    folder = tmp_path / "layers.7"
    written.save_to_disk(folder)
    theirs = sparsify.SparseCoder.load_from_disk(folder)
    ours = load_sae(folder)
    assert ours.hook == "blocks.7.hook_resid_post"

    def encode(x: Tensor) -> Tensor:
        found = theirs.encode(x)
        codes = torch.zeros(len(x), theirs.num_latents)
        return codes.scatter_(1, found.top_indices, found.top_acts)

    def decode(codes: Tensor) -> Tensor:
        values, indices = codes.topk(K, dim=1)
        return theirs.decode(values, indices)

    check(ours, encode, decode)
    # Reconstructions by its own forward pass too.
    x = inputs()
    torch.testing.assert_close(ours.decode(ours.encode(x)), theirs(x).sae_out, **TOLERANCE)


@pytest.mark.parametrize("change", [{"activation": "groupmax"}, {"transcode": True}])
def test_what_sparsify_has_and_we_have_not_is_refused_by_name(tmp_path, change):
    settings = sparsify.SparseCoderConfig(k=K, num_latents=D_SAE, **change)
    sparsify.SparseCoder(D_MODEL, settings).save_to_disk(tmp_path)
    with pytest.raises(StudyError, match=f"{next(iter(change))} is"):
        load_sae(tmp_path)


def test_the_files_are_those_that_the_reader_expects(tmp_path):
    """Names and shapes in the files above, by which the small files of test_formats are made."""
    of_saelens("gated").save_model(tmp_path / "gated")
    found = load_file(tmp_path / "gated" / "sae_weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "W_enc": (D_MODEL, D_SAE),
        "W_dec": (D_SAE, D_MODEL),
        "b_dec": (D_MODEL,),
        "b_gate": (D_SAE,),
        "b_mag": (D_SAE,),
        "r_mag": (D_SAE,),
    }
    written = sparsify.SparseCoder(D_MODEL, sparsify.SparseCoderConfig(num_latents=D_SAE))
    written.save_to_disk(tmp_path / "sparsify")
    found = load_file(Path(tmp_path, "sparsify", "sae.safetensors"))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "encoder.weight": (D_SAE, D_MODEL),
        "encoder.bias": (D_SAE,),
        "W_dec": (D_SAE, D_MODEL),
        "b_dec": (D_MODEL,),
    }

"""SAEs of other libraries: small files as those libraries write them, and what can be wrong.

That the files are as the libraries write them is shown by tests/peers, where the libraries
themselves write and read them.
"""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracle import dense_codes, read
from helpers.published_saes import RELEASES
from helpers.sae_files import (
    CFG,
    D_MODEL,
    D_SAE,
    GATED,
    HOOK,
    JUMPRELU,
    OLD_CFG,
    SPARSIFY,
    STANDARD,
    TENSORS,
    check,
    dictionary_case,
    dictionary_folder,
    double,
    inputs,
    make,
    saelens_folder,
    sparsify_folder,
    top,
    weights,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import pretrained, saelens
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.pretrained import fitted, load_sae
from sae_stitching.formats.told import Told
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae import SAE
from safetensors.torch import load_file
from torch import Tensor

# Files of each library. Tensors are random, so that no two could stand for each other.


# SAELens


@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_what_is_exported_comes_back(tmp_path, architecture, applies):
    sae = make(architecture, apply_b_dec_to_input=applies)
    layout = saelens.export_saelens(sae, tmp_path / "new" / "sae", context_size=32)
    back = load_sae(tmp_path / "new" / "sae")
    for name in TENSORS:
        ours, theirs = getattr(sae, name), getattr(back, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs), name
    thresholds = architecture in ("batchtopk", "gated")
    assert back.architecture == ("jumprelu" if thresholds else architecture)
    assert (back.hook, back.model) == (HOOK, "gpt2-small")
    assert back.apply_b_dec_to_input == applies
    x = inputs()
    assert torch.equal(back.encode(x).to_dense(), sae.encode(x).to_dense())
    cfg = json.loads(Path(str(layout.settings)).read_text())
    assert cfg["metadata"]["context_size"] == 32
    before = [Path(path).read_bytes() for path in (layout.settings, layout.weights)]
    saelens.export_saelens(sae, tmp_path / "new" / "sae", context_size=32)
    assert before == [Path(path).read_bytes() for path in (layout.settings, layout.weights)]
    assert len(list((tmp_path / "new" / "sae").iterdir())) == 2


@pytest.mark.parametrize("applies", [True, False])
def test_saelens_gated(tmp_path, applies):
    tensors = weights(**GATED)
    w = double(tensors)
    folder = saelens_folder(
        tmp_path, CFG, tensors, architecture="gated", apply_b_dec_to_input=applies
    )

    def codes(x: Tensor) -> Tensor:
        inner = (x - w.b_dec * applies) @ w.W_enc
        return (inner + w.b_gate > 0) * (inner * w.r_mag.exp() + w.b_mag).relu()

    sae = load_sae(folder)
    assert sae.architecture == "gated"
    check(sae, codes, lambda f: f @ w.W_dec + w.b_dec)


def test_saelens_topk_by_decoder_norm(tmp_path):
    tensors = weights(**STANDARD)
    tensors["W_dec"] *= torch.arange(1, D_SAE + 1)[:, None]
    tensors["W_dec"][4] = 0.0
    w, norms = double(tensors), tensors["W_dec"].double().norm(dim=1)
    options = {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}
    sae = load_sae(saelens_folder(tmp_path, CFG, tensors, **options))

    def codes(x: Tensor) -> Tensor:
        return top(((x - w.b_dec) @ w.W_enc + w.b_enc) * norms, 3)

    check(sae, codes, lambda f: f @ (w.W_dec / norms.clamp(min=1e-9)[:, None]) + w.b_dec)
    # Without the rescaling other latents are chosen.
    options["rescale_acts_by_decoder_norm"] = False
    plain = load_sae(saelens_folder(tmp_path, CFG, tensors, **options))
    assert not torch.equal(
        plain.encode(inputs()).to_dense() > 0, sae.encode(inputs()).to_dense() > 0
    )


OLD: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "the paper's": ({}, STANDARD),
    "a version below 6": ({"sae_lens_version": "5.10.7", "hook_name": HOOK}, STANDARD),
    "in the metadata": ({"metadata": {"sae_lens_version": "5.1.0"}}, STANDARD),
    "normalisation as a flag": ({"normalize_activations": False}, STANDARD),
    "normalisation as null": ({"normalize_activations": None}, STANDARD),
    "jumprelu": ({"architecture": "jumprelu", "activation_fn_str": "relu"}, JUMPRELU),
    "b_dec left in": ({"apply_b_dec_to_input": False}, STANDARD),
}


@pytest.mark.parametrize("case", OLD)
def test_older_saelens(tmp_path, case):
    changes, shapes = OLD[case]
    tensors = weights(**shapes)
    w = double(tensors)
    sae = load_sae(saelens_folder(tmp_path, OLD_CFG, tensors, **changes))
    assert (sae.hook, sae.model) == (HOOK, "gpt2-small")
    applies = changes.get("apply_b_dec_to_input", True)
    assert sae.apply_b_dec_to_input == applies

    def codes(x: Tensor) -> Tensor:
        z = (x - w.b_dec * applies) @ w.W_enc + w.b_enc
        return z.relu() * (z > w.threshold) if "threshold" in shapes else z.relu()

    check(sae, codes, lambda f: f @ w.W_dec + w.b_dec)


@pytest.mark.parametrize("key", ["activation_fn", "activation_fn_str"])
def test_older_saelens_topk(tmp_path, key):
    tensors = weights(**STANDARD)
    w = double(tensors)
    changes = {key: "topk", "activation_fn_kwargs": {"k": 3}}
    sae = load_sae(saelens_folder(tmp_path, OLD_CFG, tensors, **changes))
    assert (sae.architecture, sae.k) == ("topk", 3)
    check(
        sae,
        lambda x: top((x - w.b_dec) @ w.W_enc + w.b_enc, 3),
        lambda f: f @ w.W_dec + w.b_dec,
    )


def test_scaling_factors(tmp_path):
    tensors = weights(**STANDARD)
    w = double(tensors)
    plain = load_sae(saelens_folder(tmp_path, OLD_CFG, tensors))
    ones = {**tensors, "scaling_factor": torch.ones(D_SAE)}
    same = load_sae(saelens_folder(tmp_path, OLD_CFG, ones))
    assert torch.equal(same.W_dec, plain.W_dec)
    factor = torch.linspace(0.5, 2, D_SAE)
    scaled = {**tensors, "scaling_factor": factor}
    sae = load_sae(saelens_folder(tmp_path, OLD_CFG, scaled, finetuning_scaling_factor=True))
    check(
        sae,
        lambda x: ((x - w.b_dec) @ w.W_enc + w.b_enc).relu(),
        lambda f: f * factor.double() @ w.W_dec + w.b_dec,
    )
    saelens_folder(tmp_path, OLD_CFG, scaled)
    with pytest.raises(StudyError, match="finetuning_scaling_factor is not set"):
        load_sae(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in weights(**STANDARD).items()}
    sae = load_sae(saelens_folder(tmp_path, CFG, tensors))
    for name, tensor in tensors.items():
        assert torch.equal(getattr(sae, name), tensor.float())


# The others


@pytest.mark.parametrize("capital", [True, False])
def test_gemma_scope(tmp_path, capital):
    tensors = weights(**JUMPRELU)
    w = double(tensors)
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_7" / "width_16k" / "average_l0_41"
    folder.mkdir(parents=True)
    arrays = {
        name if capital else name.replace("W_", "w_"): tensor.numpy()
        for name, tensor in tensors.items()
    }
    np.savez(folder / "params.npz", **arrays)
    sae = load_sae(folder)
    # What leaves block 7 enters block 8.
    assert (sae.hook, sae.model) == ("blocks.7.hook_resid_post", "google/gemma-2-2b")

    def codes(x: Tensor) -> Tensor:
        z = x @ w.W_enc + w.b_enc
        return z.relu() * (z > w.threshold)

    check(sae, codes, lambda f: f @ w.W_dec + w.b_dec)


DICTIONARIES = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "batchtopk",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
}


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(tmp_path, kind):
    tensors, codes, decode = dictionary_case(kind)
    sae = load_sae(dictionary_folder(tmp_path, kind, tensors, k=3))
    assert sae.architecture == DICTIONARIES[kind]
    assert (sae.hook, sae.model) == ("blocks.7.hook_resid_post", "EleutherAI/pythia-70m")
    check(sae, codes, decode)


def test_dictionary_of_unit_norm_keeps_its_weights(tmp_path):
    tensors, _, _ = dictionary_case("AutoEncoder")
    tensors["decoder.weight"] /= tensors["decoder.weight"].norm(dim=0)
    sae = load_sae(dictionary_folder(tmp_path, "AutoEncoder", tensors))
    assert torch.equal(sae.W_dec, tensors["decoder.weight"].T)
    assert torch.equal(sae.b_enc, tensors["encoder.bias"])


@pytest.mark.parametrize(
    ("folder", "hook"),
    [
        ("layers.7", "blocks.7.hook_resid_post"),
        ("model.layers.7", "blocks.7.hook_resid_post"),
        ("h.7.mlp", "blocks.7.hook_mlp_out"),
        ("layers.7.self_attn", "blocks.7.hook_attn_out"),
        ("gpt_neox.layers.7.attention", "blocks.7.hook_attn_out"),
        ("layers.7/seed0", "blocks.7.hook_resid_post"),
        ("embed_tokens", "hook_embed"),
        ("mine", ""),
    ],
)
def test_sparsify(tmp_path, folder, hook):
    tensors = weights(**SPARSIFY)
    w = double(tensors)
    (tmp_path / folder).mkdir(parents=True)
    sae = load_sae(sparsify_folder(tmp_path / folder, tensors))
    assert sae.hook == hook
    check(
        sae,
        lambda x: top(((x - w.b_dec) @ w.encoder_weight.T + w.encoder_bias).relu(), 3),
        lambda f: f @ w.W_dec + w.b_dec,
    )


def test_the_size_of_sparsify_may_be_a_factor(tmp_path):
    shapes = {
        **SPARSIFY,
        "encoder.weight": (3 * D_MODEL, D_MODEL),
        "encoder.bias": (3 * D_MODEL,),
        "W_dec": (3 * D_MODEL, D_MODEL),
    }
    folder = sparsify_folder(tmp_path, weights(**shapes), num_latents=0, expansion_factor=3)
    assert load_sae(folder).d_sae == 3 * D_MODEL


# What is refused

S, T = STANDARD, "sae_weights.safetensors"
Spoil = Callable[[dict[str, Tensor]], Any]


def spoilt(change: Spoil) -> dict[str, Tensor]:
    tensors = weights(**STANDARD)
    change(tensors)
    return tensors


def nan(tensors: dict[str, Tensor]) -> None:
    tensors["W_dec"][2, 1] = float("nan")


BAD_TENSORS: dict[str, tuple[Spoil, str]] = {
    "missing": (
        lambda t: t.pop("b_dec"),
        "tensor b_dec is missing; the file has W_dec, W_enc, b_enc",
    ),
    "misnamed": (
        lambda t: t.update(W_decoder=t.pop("W_dec")),
        "tensor W_dec is missing; the file has W_decoder, W_enc, b_dec, b_enc",
    ),
    "transposed encoder": (
        lambda t: t.update(W_enc=t["W_enc"].T),
        "W_enc has shape (10, 6), expected (6, 10), (d_model, d_sae); it is transposed",
    ),
    "transposed decoder": (
        lambda t: t.update(W_dec=t["W_dec"].T),
        "W_dec has shape (6, 10), expected (10, 6), (d_sae, d_model); it is transposed",
    ),
    "short": (
        lambda t: t.update(b_enc=t["b_enc"][1:]),
        "b_enc has shape (9,), expected (10,), (d_sae)",
    ),
    "no matrix": (
        lambda t: t.update(W_dec=t["W_dec"][:, 0]),
        "W_dec has shape (10,), expected (10, 6), (d_sae, d_model)",
    ),
    "not finite": (nan, "W_dec is not finite at [2, 1]"),
    "integers": (
        lambda t: t.update(b_dec=torch.zeros(D_MODEL, dtype=torch.int64)),
        "b_dec is of type int64, expected floating point",
    ),
    "too many": (
        lambda t: t.update(W_more=torch.zeros(2)),
        "tensor W_more has no place in an SAE of architecture standard; is it another kind of SAE?",
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_wrong_tensor_is_named(tmp_path, case):
    change, message = BAD_TENSORS[case]
    folder = saelens_folder(tmp_path, CFG, spoilt(change))
    with pytest.raises(StudyError) as caught:
        load_sae(folder)
    assert str(caught.value) == f"{folder / T}: {message}"


BAD_CFG: dict[str, tuple[dict[str, Any], str]] = {
    "expected_average_only_in": (
        {"normalize_activations": "expected_average_only_in"},
        "normalize_activations is 'expected_average_only_in'; the factor is not in the files; fold "
        "it in SAELens and save again",
    ),
    "covariance_whitening": (
        {"normalize_activations": "covariance_whitening"},
        "normalize_activations is 'covariance_whitening'; the matrix is not in the files; fold it "
        "in SAELens and save again",
    ),
    "another normalisation": (
        {"normalize_activations": "sphere"},
        "normalize_activations is 'sphere'; this is unknown",
    ),
    "heads": (
        {"reshape_activations": "hook_z"},
        "reshape_activations is 'hook_z'; only 'none' and, of a hook_z, 'hook_z' can be imported",
    ),
    "architecture": (
        {"architecture": "transcoder"},
        "architecture is 'transcoder'; only standard, topk, jumprelu, gated can be imported "
        "(SAELens' save_inference_model writes batchtopk as jumprelu)",
    ),
    "size": ({"d_sae": "10"}, "d_sae is '10', expected a whole number above 0"),
    "no size": ({"d_in": None}, "d_in is None, expected a whole number above 0"),
    "no k": ({"architecture": "topk"}, "k is None, expected a whole number above 0"),
    "k too large": (
        {"architecture": "topk", "k": 11},
        "k is 11, more than the 10 latents of the SAE",
    ),
    "flag": (
        {"apply_b_dec_to_input": "yes"},
        "apply_b_dec_to_input is 'yes', expected true or false",
    ),
    "metadata": ({"metadata": [1]}, "metadata is [1], expected a JSON object"),
    "version": (
        {"metadata": {"sae_lens_version": "new"}},
        "sae_lens_version is 'new', expected a version",
    ),
}


@pytest.mark.parametrize("case", BAD_CFG)
def test_a_setting_that_cannot_be_imported_is_named(tmp_path, case):
    changes, message = BAD_CFG[case]
    folder = saelens_folder(tmp_path, CFG, weights(**STANDARD), **changes)
    with pytest.raises(StudyError) as caught:
        load_sae(folder)
    assert str(caught.value) == f"{folder / 'cfg.json'}: {message}"


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("cfg", [CFG, OLD_CFG])
def test_a_norm_of_each_token_is_read(tmp_path, cfg, normalize):
    tensors = weights(**STANDARD)
    folder = saelens_folder(tmp_path / "sae", cfg, tensors, normalize_activations=normalize)
    sae, w = load_sae(folder), double(tensors)
    assert sae.normalize == normalize
    x = inputs()
    z, scale, mean = read(sae, x.double())
    f = ((z - w.b_dec) @ w.W_enc + w.b_enc).relu()
    codes = sae.encode(x)
    torch.testing.assert_close(codes.to_dense().double(), f, rtol=1e-5, atol=1e-5)
    x_hat = scale * (f @ w.W_dec + w.b_dec) + mean
    torch.testing.assert_close(sae.decode(codes, x).double(), x_hat, rtol=1e-5, atol=1e-5)
    with pytest.raises(StudyError, match=f"normalises each token by {normalize}; give .* x too"):
        sae.decode(codes)
    saelens.export_saelens(sae, tmp_path / "again")
    assert load_sae(tmp_path / "again").normalize == normalize


def test_heads_that_lie_side_by_side_are_read(tmp_path):
    hook, metadata = "blocks.8.attn.hook_z", {"hook_name": "blocks.8.attn.hook_z"}
    of_old = saelens_folder(tmp_path / "old", OLD_CFG, weights(**STANDARD), hook_point=hook)
    changes = {"metadata": metadata, "reshape_activations": "hook_z"}
    of_new = saelens_folder(tmp_path / "new", CFG, weights(**STANDARD), **changes)
    for folder in (of_old, of_new):
        sae = load_sae(folder)
        assert sae.hook == hook
        assert torch.equal(sae.W_enc, weights(**STANDARD)["W_enc"])
    written = saelens.export_saelens(sae, tmp_path / "again")
    assert written.settings is not None
    assert json.loads(Path(written.settings).read_text())["reshape_activations"] == "hook_z"
    assert load_sae(tmp_path / "again").hook == hook


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"normalize_activations": True},
            "normalize_activations is 'expected_average_only_in'; the factor is not in the files",
        ),
        (
            {"activation_fn_str": "tanh-relu"},
            "activation_fn is 'tanh-relu'; only relu and topk can be imported",
        ),
        ({"hook_point": "blocks.8.attn.hook_z_of_another"}, "reshape_activations is 'hook_z'"),
        ({"activation_fn_str": "topk"}, "k is None"),
    ],
)
def test_an_older_setting_that_cannot_be_imported_is_named(tmp_path, changes, message):
    folder = saelens_folder(tmp_path, OLD_CFG, weights(**STANDARD), **changes)
    with pytest.raises(StudyError, match=re.escape(f"{folder / 'cfg.json'}: {message}")):
        load_sae(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "groupmax"}, "activation is 'groupmax'; only 'topk' can be imported"),
        ({"transcode": True}, "transcode is True; only False can be imported"),
        ({"skip_connection": True}, "skip_connection is True; only False can be imported"),
        ({"k": 0}, "k is 0, expected a whole number above 0"),
    ],
)
def test_a_setting_of_sparsify_that_cannot_be_imported_is_named(tmp_path, changes, message):
    folder = sparsify_folder(tmp_path, weights(**SPARSIFY), **changes)
    with pytest.raises(StudyError, match=re.escape(f"{folder / 'cfg.json'}: {message}")):
        load_sae(folder)


def test_a_dictionary_of_another_class_is_named(tmp_path):
    folder = dictionary_folder(tmp_path, "CrossCoder", {})
    with pytest.raises(
        StudyError, match=r"config\.json: trainer\.dict_class is 'CrossCoder'; only"
    ):
        load_sae(folder)


def test_a_latent_that_cannot_be_brought_to_unit_norm(tmp_path):
    tensors, _, _ = dictionary_case("AutoEncoder")
    tensors["decoder.weight"][:, 3] = 0.0
    folder = dictionary_folder(tmp_path, "AutoEncoder", tensors)
    with pytest.raises(StudyError, match=r"ae\.pt: decoder\.weight is zero for latent 3"):
        load_sae(folder)


def test_gemma_scope_of_wrong_shapes(tmp_path):
    path = tmp_path / "params.npz"

    def complaint(**changes: Any) -> str:
        arrays = {name: tensor.numpy() for name, tensor in weights(**JUMPRELU).items()}
        np.savez(path, **{n: a for n, a in {**arrays, **changes}.items() if a is not None})
        with pytest.raises(StudyError) as caught:
            load_sae(path)
        return str(caught.value).removeprefix(f"{path}: ")

    assert complaint(b_dec=None).startswith("tensor b_dec is missing; the file has W_enc, W_dec")
    assert complaint(threshold=None).startswith("tensor threshold is missing; the file has")
    assert complaint(b_enc=np.zeros((2, 3), np.float32)) == "b_enc has shape (2, 3), no vector"
    wrong = complaint(W_enc=np.zeros((D_SAE, D_MODEL), np.float32))
    assert wrong.endswith("expected (6, 10), (d_model, d_sae); it is transposed")
    assert complaint(b_enc=np.array(["a"] * D_SAE)).startswith("not a whole npz file (can't")


def test_transcoders_of_gemma_scope_are_no_saes(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_7" / "width_16k"
    folder.mkdir(parents=True)
    arrays = {name: tensor.numpy() for name, tensor in weights(**JUMPRELU).items()}
    np.savez(folder / "params.npz", **arrays)
    with pytest.raises(StudyError, match="is one of Gemma Scope's transcoders, no SAE"):
        load_sae(folder)


# Damage and malice


class Code:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "executed")


def test_no_code_of_a_file_is_run(tmp_path):
    tensors, _, _ = dictionary_case("AutoEncoder")
    folder = dictionary_folder(tmp_path, "AutoEncoder", tensors)
    executed = tmp_path / "executed"
    torch.save({**tensors, "bias": Code(executed)}, folder / "ae.pt")
    with pytest.raises(StudyError, match=r"ae\.pt: holds \S+, which is no tensor and could run"):
        load_sae(folder)
    (folder / "ae.pt").write_bytes(pickle.dumps(Code(executed), protocol=2))
    with pytest.raises(StudyError, match=r"ae\.pt: "):
        load_sae(folder)
    arrays = {name: tensor.numpy() for name, tensor in weights(**JUMPRELU).items()}
    for content in (pickle.dumps(Code(executed), protocol=2), None):
        path = tmp_path / "params.npz"
        if content is None:
            np.savez(path, **arrays, extra=np.array([Code(executed)], dtype=object))
        else:
            path.write_bytes(content)
        with pytest.raises(StudyError, match=r"params\.npz: (not a whole npz file|is a pickle of)"):
            load_sae(path)
    assert not executed.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list, expected tensors by their names"),
        ({"ae": {}, "optimizer": {}}, "is a checkpoint of an unfinished training"),
        ({"bias": 3.0}, "'bias' is float, expected a tensor"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, message):
    folder = dictionary_folder(tmp_path, "AutoEncoder", {})
    torch.save(content, folder / "ae.pt")
    with pytest.raises(StudyError, match=re.escape(f"{folder / 'ae.pt'}: {message}")):
        load_sae(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "holds no JSON object; get the file again"),
    ],
)
def test_settings_that_are_no_settings(tmp_path, content, message):
    folder = saelens_folder(tmp_path, CFG, weights(**STANDARD))
    (folder / "cfg.json").write_bytes(content)
    with pytest.raises(StudyError) as caught:
        load_sae(folder)
    assert str(caught.value).startswith(f"{folder / 'cfg.json'}: {message}")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """A file of weights of each format."""
    base = tmp_path_factory.mktemp("whole")
    tensors, _, _ = dictionary_case("AutoEncoder")
    arrays = {name: tensor.numpy() for name, tensor in weights(**JUMPRELU).items()}
    np.savez_compressed(base / "params.npz", **arrays)
    return {
        **{name: release().write(base / name) for name, release in RELEASES.items()},
        "saelens": saelens_folder(base / "saelens", CFG, weights(**STANDARD)) / T,
        "gemma-scope": base / "params.npz",
        "dictionary-learning": dictionary_folder(base / "dl", "AutoEncoder", tensors) / "ae.pt",
        "sparsify": sparsify_folder(base / "s", weights(**SPARSIFY)) / "sae.safetensors",
    }


_FORMATS = st.sampled_from(sorted(pretrained._READERS))
# Any bytes, also behind the first of a file that is known.
_BEGINNINGS = [
    b"",
    b"\x80",
    b"PK\x03\x04",
    b"{",
    b"[",
    b"<html",
    b"\x89HDF\r\n\x1a\n",
    b"\x02" + b"\0" * 7,
]
_BYTES = st.builds(bytes.__add__, st.sampled_from(_BEGINNINGS), st.binary(max_size=200))


@settings(max_examples=60, deadline=None)
@given(format=_FORMATS, share=st.floats(0, 0.999))
def test_a_truncated_file_is_named(whole, format, share):
    path, content = whole[format], whole[format].read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    try:
        with pytest.raises(StudyError) as caught:
            load_sae(path)
    finally:
        path.write_bytes(content)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@example(content=b"\x80", format="saelens")  # a pickle that ends after its first byte
@example(content=b"PK\x03\x04", format="sparsify")
@given(content=_BYTES, format=_FORMATS)
def test_any_bytes_give_one_line(whole, content, format):
    path, before = whole[format], whole[format].read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(StudyError) as caught:
            load_sae(path)
    finally:
        path.write_bytes(before)
    assert "\n" not in str(caught.value)
    assert "weights_only=False" not in str(caught.value)


# Fitting the study


def fit(told: Told | None = None, *, d_sae: int = D_SAE, d_model: int | None = D_MODEL) -> SAE:
    study = Activations(hook=HOOK, model="gpt2")
    return fitted(
        make("relu"), told or Told(), "folder/x", d_sae=d_sae, d_model=d_model, study=study
    )


def test_an_sae_becomes_one_of_the_study():
    sae = fit()
    assert (sae.hook, sae.model) == (HOOK, "gpt2")
    assert fit(d_model=None).d_model == D_MODEL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_sae": 9}, "has 10 latents, not the 9 of d_sae; correct d_sae"),
        (
            {"d_model": 7},
            f"reads d_model 6, but gpt2 has 7 at {HOOK}; is it for this model and place?",
        ),
    ],
)
def test_an_sae_of_other_sizes_is_refused(changes, message):
    with pytest.raises(StudyError) as caught:
        fit(**changes)
    assert str(caught.value) == f"folder/x: {message}"


def test_export_needs_no_gradient_and_no_order_in_memory(tmp_path):
    sae = make("jumprelu")
    strided = replace(sae, W_enc=sae.W_enc.T.contiguous().T.requires_grad_())
    layout = saelens.export_saelens(strided, tmp_path)
    assert torch.equal(load_file(layout.weights)["W_enc"], sae.W_enc)
    assert (dense_codes(load_sae(tmp_path), inputs()) > 0).any()

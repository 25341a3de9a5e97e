"""SAEs of releases that have a layout of their own, held against their formulas in float64.

That SAELens reads the same of the same files is shown by tests/peers.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.published_saes import RELEASES, Release
from helpers.sae_files import D_MODEL, D_SAE, check, weights
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import FILES, find_local
from sae_stitching.formats.pretrained import load_sae, read_files
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE
from safetensors.torch import load_file, save_file


def read(release: Release, folder: Path, format: str = "auto") -> tuple[SAE, Told]:
    """Read an SAE by its path on the hub, as a study does."""
    layout = find_local(str(release.write(folder)), format)
    return read_files(layout, os.path.relpath(layout.weights, folder))


def complaint(release: Release, folder: Path) -> str:
    path = release.write(folder)
    with pytest.raises(StudyError) as caught:
        load_sae(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_every_format_is_here():
    older = {"saelens", "gemma-scope", "dictionary-learning", "sparsify"}
    assert RELEASES.keys() | older == FILES.keys()


@pytest.mark.parametrize("given", ["auto", "its own"])
@pytest.mark.parametrize("format", RELEASES)
def test_what_a_release_computes_and_tells(tmp_path, format, given):
    release = RELEASES[format]()
    sae, told = read(release, tmp_path, format if given == "its own" else given)
    check(sae, release.codes, release.decode)
    assert (sae.hook, sae.model) == release.told
    assert told.strange == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions(tmp_path, dtype):
    release = RELEASES["goodfire"]()
    (tensors,) = release.files.values()
    release.files = {release.path: {name: t.to(dtype) for name, t in tensors.items()}}
    sae, _ = read(release, tmp_path)
    assert torch.equal(sae.W_enc.T, tensors["encoder_linear.weight"].to(dtype).float())


# Gemma Scope 2

SCOPE = "google/gemma-scope-2-4b-it"


@pytest.mark.parametrize(
    ("folder", "hook"),
    [
        ("resid_post/layer_9_width_1m_l0_big", "blocks.9.hook_resid_post"),
        ("resid_post_all/layer_9_width_16k_l0_small", "blocks.9.hook_resid_post"),
        ("attn_out_all/layer_9_width_16k_l0_small", "blocks.9.attn.hook_z"),
        ("mlp_out/layer_9_width_16k_l0_medium_seed_1", "blocks.9.hook_mlp_out"),
    ],
)
def test_gemma_scope_2_goes_without_settings(tmp_path, folder, hook):
    release = RELEASES["gemma-scope-2"]()
    (tensors,) = [value for name, value in release.files.items() if "params" in name]
    release.path = f"{SCOPE}/{folder}/params.safetensors"
    release.files = {release.path: tensors}
    sae, told = read(release, tmp_path)
    check(sae, release.codes, release.decode)
    assert (sae.hook, sae.model) == (hook, "google/gemma-3-4b-it")
    assert told.said["context"].value == 1024


@pytest.mark.parametrize(
    ("folder", "settings"),
    [
        ("transcoder_all/layer_9_width_16k_l0_big", {}),
        ("transcoder/layer_9_width_262k_l0_big_affine", {"affine_connection": True}),
        (
            "resid_post/layer_9_width_16k_l0_big",
            {"hf_hook_point_out": "model.layers.9.post_feedforward_layernorm.output"},
        ),
    ],
)
def test_transcoders_of_gemma_scope_2_are_no_saes(tmp_path, folder, settings):
    release = RELEASES["gemma-scope-2"]()
    former, tensors = release.files.values()
    release.path = f"{SCOPE}/{folder}/params.safetensors"
    release.files = {
        f"{SCOPE}/{folder}/config.json": {**former, **settings},
        release.path: tensors,
    }
    assert complaint(release, tmp_path).endswith(
        "is one of Gemma Scope 2's transcoders, which read at one place and write at another; "
        "name an SAE"
    )


def test_a_skip_connection_of_gemma_scope_2_is_named(tmp_path):
    release = RELEASES["gemma-scope-2"]()
    release.files[release.path]["affine_skip_connection"] = torch.zeros(D_MODEL, D_MODEL)
    assert complaint(release, tmp_path).startswith(
        "params.safetensors: is one of Gemma Scope 2's transcoders, which is not read"
    )


# Qwen Scope


def test_qwen_scope_needs_its_repositorys_name(tmp_path):
    release = RELEASES["qwen-scope"]()
    release.files = {"mine/layer60.sae.pt": release.files[release.path]}
    release.path = "mine/layer60.sae.pt"
    assert complaint(release, tmp_path) == (
        f"{tmp_path}/mine/layer60.sae.pt: nothing tells its k; keep the file in a folder that is "
        "called as Qwen's repository, such as SAE-Res-Qwen3-1.7B-Base-W32K-L0_50"
    ).replace(f"{tmp_path}/mine/", "")


def test_qwen_scope_in_the_hubs_cache(tmp_path):
    release = RELEASES["qwen-scope"]()
    tensors = release.files[release.path]
    folder = "models--Qwen--SAE-Res-Qwen3-1.7B-Base-W32K-L0_4/snapshots/0a1b"
    release.path = f"{folder}/layer7.sae.pt"
    release.files = {release.path: tensors}
    sae, _ = read(release, tmp_path)
    assert (sae.k, sae.hook) == (4, "blocks.7.hook_resid_post")
    release.path = f"{folder.replace('L0_4', 'L0_11')}/layer7.sae.pt"
    release.files = {release.path: tensors}
    assert complaint(release, tmp_path).endswith(": k is 11, more than the 10 latents of the SAE")


# Llama Scope


@pytest.mark.parametrize(
    "changes",
    [
        {"sparsity_include_decoder_norm": False},
        {"act_fn": "topk"},
        {"act_fn": "topk", "jump_relu_threshold": 0.0},
        {"act_fn": "topk", "jump_relu_threshold": 0.0, "sparsity_include_decoder_norm": False},
        {"norm_activation": "none"},
        {"use_decoder_bias": False},
        {"apply_decoder_bias_to_pre_encoder": True},
        {"dataset_average_activation_norm": {"in": 3.25, "out": 3.25}},
    ],
)
def test_settings_of_llama_scope(tmp_path, changes):
    release = RELEASES["llama-scope"](**changes)
    sae, _ = read(release, tmp_path)
    check(sae, release.codes, release.decode)
    is_top = changes.get("jump_relu_threshold") == 0.0
    assert sae.architecture == ("topk" if is_top else "jumprelu")


def test_r1_distill_may_weigh_latents_by_their_directions(tmp_path):
    release = RELEASES["llama-scope-r1-distill"](sparsity_include_decoder_norm=True)
    sae, _ = read(release, tmp_path)
    check(sae, release.codes, release.decode)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hook_point_out": "blocks.15.hook_mlp_out"},
            "hook_point_out is 'blocks.15.hook_mlp_out', so that this is a transcoder; only SAEs "
            "can be imported",
        ),
        (
            {"norm_activation": "token-wise"},
            "norm_activation is 'token-wise'; an SAE that scales every token by itself cannot be "
            "stitched",
        ),
        ({"use_glu_encoder": True}, "use_glu_encoder is True; only False can be imported"),
        ({"sae_type": "crosscoder"}, "sae_type is 'crosscoder'; only 'sae' can be imported"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'; only jumprelu, topk, relu can be imported"),
        (
            {"jump_relu_threshold": None},
            "jump_relu_threshold is None, expected a number above 0",
        ),
        ({"d_model": "6"}, "d_model is '6', expected a whole number above 0"),
        (
            {"dataset_average_activation_norm": {"in": 0}},
            "in is 0, expected a number above 0",
        ),
        (
            {
                "dataset_average_activation_norm": {"in": 3.0, "out": 4.0},
                "apply_decoder_bias_to_pre_encoder": True,
            },
            "apply_decoder_bias_to_pre_encoder is true, and dataset_average_activation_norm "
            "differs between in and out; only one norm can be imported then",
        ),
    ],
)
def test_a_setting_of_llama_scope_that_cannot_be_imported_is_named(tmp_path, changes, message):
    release = RELEASES["llama-scope"]()
    (settings,) = [name for name in release.files if "hyperparams" in name]
    release.files[settings] |= changes
    assert complaint(release, tmp_path) == f"{tmp_path / settings}: {message}"


def test_a_norm_that_is_nowhere_is_missed(tmp_path):
    release = RELEASES["llama-scope-r1-distill"]()
    name = "dataset_average_activation_norm.blocks.7.hook_resid_post"
    del release.files[release.path][name]
    assert complaint(release, tmp_path) == (
        f"sae_weights.safetensors: there is no tensor {name}, and no "
        "dataset_average_activation_norm in config.json, by which norm_activation dataset-wise "
        "scales activations; get both files again"
    )


# OpenAI, Apollo


@pytest.mark.parametrize(
    ("path", "hook"),
    [
        ("gpt2-small/mlp_post_act/autoencoders/3.pt", "blocks.3.mlp.hook_post"),
        ("gpt2-small/resid_post_mlp_v4/autoencoders/11.pt", "blocks.11.hook_resid_post"),
        ("gpt2-small/resid_post_attn_v5_32k/autoencoders/0.pt", "blocks.0.hook_resid_mid"),
        ("gpt2-small/resid_delta_attn_v5_128k/autoencoders/0.pt", "blocks.0.hook_attn_out"),
    ],
)
def test_openais_paths_tell_places(tmp_path, path, hook):
    release = RELEASES["openai"]()
    release.files = {path: release.files[release.path]}
    release.path = path
    sae, told = read(release, tmp_path)
    assert (sae.hook, sae.model) == (hook, "gpt2-small")
    assert told.said["center_writing_weights"].value is False


def test_openais_first_files_do_not_name_their_activation(tmp_path):
    release = RELEASES["openai"]()
    for name in ("activation", "activation_state_dict"):
        del release.files[release.path][name]
    sae, _ = read(release, tmp_path)
    check(sae, release.codes, release.decode)


TOPK = {"activation": "TopK", "activation_state_dict": {"k": 5, "postact_fn": "ReLU"}}


def test_openais_topk_normalises_each_token(tmp_path):
    release = RELEASES["openai"]()
    release.files[release.path] |= TOPK
    sae, _ = read_files(find_local(str(release.write(tmp_path)), "openai"))
    assert (sae.architecture, sae.k, sae.normalize) == ("topk", 5, "layer_norm")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "Identity"}, "activation is 'Identity'; only 'ReLU' and 'TopK' can be"),
        (
            {"activation_state_dict": {"k": 5, "postact_fn": "Identity"}},
            "activation_state_dict.postact_fn is 'Identity'; only 'ReLU' can be imported",
        ),
        (
            {"activation_state_dict": {"k": "5"}},
            "activation_state_dict.k is '5', expected a whole number above 0",
        ),
        ({"activation_state_dict": None}, "activation_state_dict.k is None, expected a whole"),
    ],
)
def test_openais_other_activations_are_refused(tmp_path, change, said):
    release = RELEASES["openai"]()
    release.files[release.path] |= {**TOPK, **change}
    assert complaint(release, tmp_path).startswith(f"6.pt: {said}")


def test_apollos_file_of_several_saes(tmp_path):
    release = RELEASES["apollo"]()
    for name, tensor in list(release.files[release.path].items()):
        release.files[release.path][name.replace("-6-", "-8-")] = tensor
    assert complaint(release, tmp_path) == (
        "samples_400000.pt: has SAEs of 2 places (blocks-6-hook_resid_pre, "
        "blocks-8-hook_resid_pre), expected one"
    )


def test_apollo_kept_the_whole_model_too(tmp_path):
    release = RELEASES["apollo"]()
    release.files[release.path] = {
        f"saes.{name}": tensor for name, tensor in release.files[release.path].items()
    }
    sae, told = read(release, tmp_path)
    check(sae, release.codes, release.decode)
    assert told.said["center_writing_weights"].value is True
    assert told.said["context"].value == 1024


def test_settings_in_yaml_that_are_none(tmp_path):
    release = RELEASES["apollo"]()
    path = release.write(tmp_path)
    for content, says in (
        ("a: [", "not YAML (while parsing a flow node"),
        ("- 1", "holds no YAML object; get the file again"),
    ):
        (path.parent / "final_config.yaml").write_text(content)
        with pytest.raises(StudyError) as caught:
            load_sae(path)
        assert str(caught.value).startswith(f"{path.parent}/final_config.yaml: {says}")
        assert "\n" not in str(caught.value)


# What is spoilt

Spoil = Callable[[dict[str, Any], str], None]


def transposed(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = tensors[name].T.contiguous()


def not_finite(tensors: dict[str, Any], name: str) -> None:
    tensors[name][1, 2] = float("inf")


def missing(tensors: dict[str, Any], name: str) -> None:
    del tensors[name]


def unknown(tensors: dict[str, Any], name: str) -> None:
    tensors[f"{name}_too"] = tensors[name].clone()


ENCODERS = {
    "gemma-scope-2": "w_enc",
    "qwen-scope": "W_enc",
    "connor-rob": "W_enc",
    "goodfire": "encoder_linear.weight",
}


@pytest.mark.parametrize("spoil", [transposed, not_finite, missing, unknown])
@pytest.mark.parametrize("format", RELEASES)
def test_a_spoilt_tensor_is_named(tmp_path, format, spoil):
    release, name = RELEASES[format](), ENCODERS.get(format, "encoder.weight")
    tensors = release.files[release.path]
    if format == "apollo":
        name = "blocks-6-hook_resid_pre.encoder.0.weight"
    spoil(tensors, name)
    path = release.write(tmp_path)
    with pytest.raises(StudyError) as caught:
        read_files(find_local(str(path), format))
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "\n" not in said
    called = name.removeprefix("blocks-6-hook_resid_pre.")
    rows = (2 * D_MODEL if "distill" in format else D_SAE), D_MODEL
    rows = rows[::-1] if format in ("gemma-scope-2", "connor-rob") else rows
    expected = {
        transposed: f"{called} has shape {rows[::-1]}, expected {rows}, ",
        not_finite: f"{called} is not finite at ",
        missing: f"tensor {called} is missing; the file has ",
        unknown: f"tensor {called}_too has no place in an SAE of ",
    }
    assert said.startswith(f"{path}: {expected[spoil]}")


@pytest.mark.parametrize("format", [name for name in RELEASES if FILES[name].settings])
def test_missing_settings_are_named(tmp_path, format):
    release = RELEASES[format]()
    path, settings = release.write(tmp_path), find_local(str(release.write(tmp_path))).settings
    os.remove(str(settings))
    if format == "gemma-scope-2":  # which may lack them
        assert find_local(str(path)).settings is None
        return
    with pytest.raises(StudyError) as caught:
        find_local(str(path), format)
    said = f"{settings}: no such file, but {format} has it beside {path.name}; get it too"
    assert str(caught.value) == said


def test_files_of_one_run_of_sparsify_are_found_above(tmp_path, monkeypatch):
    # EleutherAI's repositories have a folder for each place, and the run's settings beside them.
    for folder in ("layers.3", "layers.5/seed0"):
        path = tmp_path / folder / "sae.safetensors"
        path.parent.mkdir(parents=True)
        shapes = {"encoder.weight": (D_SAE, D_MODEL), "encoder.bias": (D_SAE,)}
        save_file(weights(**shapes, W_dec=(D_SAE, D_MODEL), b_dec=(D_MODEL,)), path)
        settings = {"d_in": D_MODEL, "num_latents": D_SAE, "k": 3}
        (path.parent / "cfg.json").write_text(json.dumps(settings))
        run = {"sae": {}, "hookpoints": [], "model": "EleutherAI/pythia-70m", "ctx_len": 2048}
        (tmp_path / "config.json").write_text(json.dumps(run))
        layout = find_local(str(path.parent))
        assert layout.run == str(tmp_path / "config.json")
        monkeypatch.chdir(path.parent)
        assert Path(str(find_local(".").run)).resolve() == tmp_path / "config.json"
        sae, told = read_files(layout)
        assert sae.model == "EleutherAI/pythia-70m"
        assert told.said["context"].where == f"{tmp_path}/config.json: ctx_len"
    assert load_file(path)["W_dec"].shape == sae.W_dec.shape

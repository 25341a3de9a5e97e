"""Every loader that SAELens has for published SAEs, on stand-ins of their files, against ours.

Either both give the same SAE at the same place, or the file is refused here by its real name. The
stand-ins are laid out as the loaders look for them, and each is read by its loader first.
"""

import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REASON = "needs SAELens; run make test-peers"
sae_lens = pytest.importorskip("sae_lens", reason=REASON)

import torch  # noqa: E402
from helpers.loopback_hub import Hub  # noqa: E402
from helpers.peers import D_MODEL, D_SAE, check, inputs  # noqa: E402
from huggingface_hub import hf_hub_download  # noqa: E402
from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: E402
from sae_stitching.base.errors import StudyError  # noqa: E402
from sae_stitching.formats import find_local, places  # noqa: E402
from sae_stitching.formats.hub_folders import fetch_sae  # noqa: E402
from sae_stitching.formats.pretrained import load_sae, read_files  # noqa: E402
from sae_stitching.formats.registry import FORMATS  # noqa: E402
from sae_stitching.formats.told import Told  # noqa: E402
from sae_stitching.hub.client import resolve  # noqa: E402
from sae_stitching.saes.sae import SAE  # noqa: E402
from safetensors.torch import save  # noqa: E402
from torch import Tensor  # noqa: E402

STANDARD = {"W_enc": (D_MODEL, D_SAE), "W_dec": (D_SAE, D_MODEL), "b_enc": (D_SAE,)}
STANDARD["b_dec"] = (D_MODEL,)
LINEAR = {"encoder.weight": (D_SAE, D_MODEL), "decoder.weight": (D_MODEL, D_SAE)}
LINEAR |= {"encoder.bias": (D_SAE,), "decoder.bias": (D_MODEL,)}
TURNED = {**STANDARD, "W_enc": (D_SAE, D_MODEL), "W_dec": (D_MODEL, D_SAE)}
JUMPRELU = {**STANDARD, "threshold": (D_SAE,)}
LOWER = {name.replace("W_", "w_"): shape for name, shape in JUMPRELU.items()}
GOODFIRE = {
    "encoder_linear.weight": (D_SAE, D_MODEL),
    "encoder_linear.bias": (D_SAE,),
    "decoder_linear.weight": (D_MODEL, D_SAE),
    "decoder_linear.bias": (D_MODEL,),
}
# As published, but for the sizes.
LLAMA_SETTINGS = {
    **{"d_model": D_MODEL, "d_sae": D_SAE, "expansion_factor": 8, "use_decoder_bias": True},
    **{"apply_decoder_bias_to_pre_encoder": False, "bias_init_method": "all_zero"},
    **{"act_fn": "jumprelu", "jump_relu_threshold": 0.35546875, "norm_activation": "dataset-wise"},
    **{"decoder_exactly_fixed_norm": False, "use_glu_encoder": False, "init_decoder_norm": 0.5},
    **{"init_encoder_norm": None, "init_encoder_with_decoder_transpose": True, "lp": 1},
    **{"l1_coefficient": 8e-05, "l1_coefficient_warmup_steps": 39062, "top_k": 50, "seed": 42},
    **{"k_warmup_steps": 39062, "use_batch_norm_mse": True, "use_ghost_grads": False},
    **{"tp_size": 1, "ddp_size": 1},
}
R1_SETTINGS = {
    **{"sae_type": "sae", "d_model": D_MODEL, "expansion_factor": 2},
    **{"use_decoder_bias": True, "act_fn": "jumprelu", "jump_relu_threshold": 0.0},
    **{"apply_decoder_bias_to_pre_encoder": False, "norm_activation": "dataset-wise"},
    **{"sparsity_include_decoder_norm": False, "top_k": 50, "use_glu_encoder": False},
    **{"hook_point_in": "blocks.15.hook_resid_post"},
    **{"hook_point_out": "blocks.15.hook_resid_post", "jumprelu_threshold_window": 2.0},
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    # Small thresholds, so that latents fire.
    return {
        name: (0.1 if "threshold" in name else 0.4) * torch.randn(*shape, generator=generator)
        for name, shape in shapes.items()
    }


def encoded(name: str, content: Any) -> bytes:
    """A file of a repository, in the container that its name tells."""
    suffix, buffer = Path(name).suffix, io.BytesIO()
    if suffix == ".safetensors":
        return save({key: tensor.contiguous() for key, tensor in content.items()})
    if suffix == ".npz":
        np.savez(buffer, **{key: tensor.numpy() for key, tensor in content.items()})
    elif suffix in (".pt", ".pth"):
        torch.save(content, buffer)
    else:
        return (content if isinstance(content, str) else json.dumps(content)).encode()
    return buffer.getvalue()


def theirs(
    loader: str, repo: str, folder: str, scale: float | None = None, d_sae: int = D_SAE
) -> Any:
    """The SAE that a loader of SAELens makes, its norm folded as SAE.from_pretrained does."""
    settings, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader](
        repo, folder, "cpu", False, {"d_in": D_MODEL, "d_sae": d_sae, "dtype": "float32"}
    )
    settings = loaders.handle_config_defaulting(settings)
    sae = sae_lens.SAE.get_sae_class_for_architecture(settings["architecture"]).from_dict(settings)
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    if sae.cfg.normalize_activations == "expected_average_only_in":
        assert scale is not None
        sae.fold_activation_norm_scaling_factor(scale)
    if sae.cfg.reshape_activations == "hook_z" or "hook_z" in sae.cfg.metadata.hook_name:
        # Heads stand beside each other already.
        sae.turn_off_forward_pass_hook_z_reshaping()
    return sae


class Published:
    """Repositories on the hub of these tests, from which both read."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def put(self, repo: str, files: dict[str, Any]) -> None:
        """Publish files."""
        self.hub.repository(repo).commit({n: encoded(n, c) for n, c in files.items()})

    def ours(self, repo: str, path: str, format: str = "auto") -> tuple[SAE, Told]:
        """Fetch and read an SAE as a study does."""
        fetch_sae(resolve("model", repo, "main"), path, format, self.folder / "sae")
        layout = find_local(f"{self.folder}/sae/{repo}/{path}", format)
        return read_files(layout, os.path.relpath(layout.weights, self.folder / "sae"))


@pytest.fixture
def published(hub, tmp_path) -> Published:
    """The hub, empty."""
    return Published(hub, tmp_path)


# Those that are read here too


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("res", "blocks.12.hook_resid_post"),
        ("mlp", "blocks.12.hook_mlp_out"),
        ("att", "blocks.12.attn.hook_z"),
    ],
)
@pytest.mark.parametrize(("size", "model"), [("2b-pt", "gemma-2-2b"), ("9b-it", "gemma-2-9b-it")])
def test_gemma_scope(published, kind, hook, size, model):
    repo, folder = f"google/gemma-scope-{size}-{kind}", "layer_12/width_16k/average_l0_41"
    published.put(repo, {f"{folder}/params.npz": weights(JUMPRELU)})
    sae, (ours, told) = theirs("gemma_2", repo, folder), published.ours(repo, folder)
    assert ours.hook == sae.cfg.metadata.hook_name == hook
    assert ours.model == f"google/{sae.cfg.metadata.model_name}" == f"google/{model}"
    assert told.said["context"].value == sae.cfg.metadata.context_size
    check(ours, sae.encode, sae.decode)


def test_gemmas_embedding_is_scaled(published):
    repo, folder = "google/gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6"
    tensors = weights(JUMPRELU)
    published.put(repo, {f"{folder}/params.npz": tensors})
    sae = theirs("gemma_2", repo, folder)
    ours, _ = published.ours(repo, folder)
    assert ours.hook == sae.cfg.metadata.hook_name == "hook_embed"
    # What the embedding holds, in the file's own weights.
    held = inputs() / D_MODEL**0.5
    z = held @ tensors["W_enc"] + tensors["b_enc"]
    f = torch.where(z > tensors["threshold"], z, 0.0).relu()
    x_hat = D_MODEL**0.5 * (f @ tensors["W_dec"] + tensors["b_dec"])
    codes = ours.encode(inputs())
    torch.testing.assert_close(codes.to_dense(), f, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.encode(inputs()), f, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode(codes), x_hat, rtol=1e-5, atol=1e-5)
    # SAELens leaves b_dec as it is in the file.
    lacking = (D_MODEL**0.5 - 1) * tensors["b_dec"]
    torch.testing.assert_close(sae.decode(f) + lacking, x_hat, rtol=1e-5, atol=1e-5)


SCALARS = {"k": torch.tensor(5, dtype=torch.int32), "threshold": torch.tensor(0.4)}
OF_LINEAR = {name: LINEAR[name] for name in ("encoder.weight", "decoder.weight", "encoder.bias")}
DICTIONARIES: dict[str, dict[str, Tensor]] = {
    "AutoEncoder": weights({**OF_LINEAR, "bias": (D_MODEL,)}),
    "AutoEncoderTopK": {**weights({**OF_LINEAR, "b_dec": (D_MODEL,)}), **SCALARS},
    "BatchTopKSAE": {**weights({**OF_LINEAR, "b_dec": (D_MODEL,)}), **SCALARS},
    "MatryoshkaBatchTopKSAE": {**weights(STANDARD), **SCALARS},
    "JumpReluAutoEncoder": weights({**STANDARD, "threshold": (D_SAE,)}),
    "GatedAutoEncoder": weights(
        {
            **{name: LINEAR[name] for name in ("encoder.weight", "decoder.weight")},
            "decoder_bias": (D_MODEL,),
            **dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), (D_SAE,)),
        }
    ),
}


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(published, kind):
    # AutoEncoderNew is left out: SAELens' loader subtracts its bias from the input, which the
    # library itself does not; test_peers holds ours against the library.
    repo, folder = "canrager/lm_sae", "resid_post_layer_3/trainer_0"
    trainer = {"dict_class": kind, "activation_dim": D_MODEL, "dict_size": D_SAE, "k": 5}
    trainer |= {"layer": 3, "lm_name": "EleutherAI/pythia-70m-deduped"}
    config = {"trainer": trainer, "buffer": {"ctx_len": 128}}
    files = {"config.json": config, "ae.pt": DICTIONARIES[kind], "eval_results.json": {}}
    published.put(repo, {f"{folder}/{name}": content for name, content in files.items()})
    sae, (ours, told) = (
        theirs("dictionary_learning_1", repo, folder),
        published.ours(repo, folder),
    )
    assert ours.hook == sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert ours.model.endswith(f"/{sae.cfg.metadata.model_name}")
    assert told.said["context"].value == sae.cfg.metadata.context_size == 128
    if kind == "AutoEncoder":  # whose latents the library scales to unit decoder directions
        x = inputs()
        torch.testing.assert_close(ours.decode(ours.encode(x)), sae(x), rtol=1e-5, atol=1e-5)
    else:
        check(ours, sae.encode, sae.decode)


@pytest.mark.parametrize("folder", ["layers.5", "layers_5", "embed_tokens"])
def test_sparsify_names_of_places(published, folder):
    # The weights are not compared: SAELens' loader turns W_dec, which sparsify has as (d_sae,
    # d_model) already. test_peers holds them against sparsify itself.
    repo, tensors = "EleutherAI/sae-pythia-70m-32k", weights({**STANDARD, **OF_LINEAR})
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    files = {
        f"{folder}/cfg.json": {"d_in": D_MODEL, "num_latents": D_SAE, "k": 5},
        f"{folder}/sae.safetensors": {name: tensors[name] for name in names},
        # Of the run, which has a folder for each place.
        "config.json": {"sae": {}, "hookpoints": [], "model": "x", "ctx_len": 9},
    }
    published.put(repo, files)
    ours, told = published.ours(repo, folder)
    run = Path(hf_hub_download(repo, "config.json")).parent
    settings = loaders.get_sparsify_config_from_hf(repo, folder, "cpu")
    assert run == Path(hf_hub_download(repo, f"{folder}/cfg.json")).parent.parent
    assert places.hook(folder) == ours.hook == settings["hook_name"]
    assert (ours.model, told.said["context"].value) == (
        settings["model_name"],
        settings["context_size"],
    )


@pytest.mark.parametrize("with_settings", [True, False])
@pytest.mark.parametrize(
    ("folder", "hook", "module"),
    [
        ("resid_post", "hook_resid_post", "output"),
        ("resid_post_all", "hook_resid_post", "output"),
        ("attn_out_all", "attn.hook_z", "self_attn.o_proj.input"),
        ("mlp_out", "hook_mlp_out", "post_feedforward_layernorm.output"),
    ],
)
@pytest.mark.parametrize("size", ["270m-pt", "270m-it", "4b-pt", "27b-it"])
def test_gemma_scope_2(published, size, folder, hook, module, with_settings):
    repo, path = f"google/gemma-scope-2-{size}", f"{folder}/layer_17_width_262k_l0_medium_seed_1"
    files: dict[str, Any] = {f"{path}/params.safetensors": weights(LOWER)}
    if with_settings:
        files[f"{path}/config.json"] = {
            **{"architecture": "jump_relu", "model_name": f"gemma-v3-{size}", "l0": 60},
            **{"hf_hook_point_in": f"model.layers.17.{module}", "width": 262144, "type": "sae"},
        }
    published.put(repo, files)
    sae, (ours, told) = theirs("gemma_3", repo, path), published.ours(repo, path)
    assert ours.hook == sae.cfg.metadata.hook_name == f"blocks.17.{hook}"
    assert ours.model == sae.cfg.metadata.model_name
    assert told.said["context"].value == sae.cfg.metadata.context_size
    assert not told.strange and not ours.apply_b_dec_to_input
    check(ours, sae.encode, sae.decode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", loaders.QWEN_SCOPE_MODEL_INFO)
def test_qwen_scope(published, model, dtype):
    repo = f"Qwen/SAE-Res-{model}-W32K-L0_50"
    tensors = {name: tensor.to(dtype) for name, tensor in weights(TURNED).items()}
    published.put(repo, {"layer7.sae.pt": tensors, "layer70.sae.pt": tensors})
    sae = theirs("qwen_scope", repo, "layer7.sae.pt")
    for format in ("auto", "qwen-scope"):
        ours, told = published.ours(repo, "layer7.sae.pt", format)
        assert ours.hook == sae.cfg.metadata.hook_name == "blocks.7.hook_resid_post"
        assert ours.model == sae.cfg.metadata.model_name == f"Qwen/{model}"
        assert ours.k == sae.cfg.k == 50
        assert told.said["context"].value == sae.cfg.metadata.context_size
        check(replace(ours, k=50), sae.encode, sae.decode)


@pytest.mark.parametrize("includes_norm", [True, False])
@pytest.mark.parametrize(
    ("place", "hook"), [("R", "hook_resid_post"), ("A", "hook_attn_out"), ("M", "hook_mlp_out")]
)
def test_llama_scope(published, place, hook, includes_norm):
    folder = f"Llama3_1-8B-Base-L15{place}-8x"
    repo, norm = f"fnlp/Llama3_1-8B-Base-LX{place}-8x", 10.8125
    tensors = weights(LINEAR)
    if includes_norm:  # as the library, which SAELens does not, unless there is nothing to do
        tensors["decoder.weight"] /= tensors["decoder.weight"].norm(dim=0)
    settings = {
        **LLAMA_SETTINGS,
        "hook_point_in": f"blocks.15.{hook}",
        "hook_point_out": f"blocks.15.{hook}",
        "dataset_average_activation_norm": {"in": norm, "out": norm},
        "sparsity_include_decoder_norm": includes_norm,
    }
    published.put(
        repo,
        {
            f"{folder}/hyperparams.json": settings,
            f"{folder}/checkpoints/final.safetensors": tensors,
            f"{folder}/lm_config.json": {},
        },
    )
    sae = theirs("llama_scope", repo, folder, D_MODEL**0.5 / norm)
    for path in (folder, f"{folder}/checkpoints/final.safetensors"):
        ours, told = published.ours(repo, path)
        assert ours.hook == sae.cfg.metadata.hook_name == f"blocks.15.{hook}"
        assert ours.model == sae.cfg.metadata.model_name
        assert told.said["context"].value == sae.cfg.metadata.context_size
        assert not told.strange
        check(ours, sae.encode, sae.decode)


def test_llama_scope_r1_distill(published):
    repo, folder = "fnlp/Llama-Scope-R1-Distill", "400M-Slimpajama-400M-OpenR1-Math-220k/L15R"
    norm, d_sae = torch.tensor(1.7262505292892456), 2 * D_MODEL
    shapes = {
        **{"encoder.weight": (d_sae, D_MODEL), "decoder.weight": (D_MODEL, d_sae)},
        **{
            "encoder.bias": (d_sae,),
            "decoder.bias": (D_MODEL,),
            "log_jumprelu_threshold": (d_sae,),
        },
    }
    tensors = {
        **weights(shapes),
        "dataset_average_activation_norm.blocks.15.hook_resid_post": norm,
    }
    published.put(
        repo,
        {f"{folder}/config.json": R1_SETTINGS, f"{folder}/sae_weights.safetensors": tensors},
    )
    sae = theirs("llama_scope_r1_distill", repo, folder, D_MODEL**0.5 / norm.item(), d_sae)
    ours, told = published.ours(repo, folder)
    assert ours.hook == sae.cfg.metadata.hook_name == "blocks.15.hook_resid_post"
    # SAELens' loader names the model of Llama Scope, its registry and the repository this one.
    assert ours.model == "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    assert told.said["context"].value == sae.cfg.metadata.context_size
    assert not told.strange
    check(ours, sae.encode, sae.decode)


@pytest.mark.parametrize(
    ("repo", "file", "hook"),
    [
        (
            "Goodfire/Llama-3.3-70B-Instruct-SAE-l50",
            "Llama-3.3-70B-Instruct-SAE-l50.pt",
            "blocks.50.hook_resid_post",
        ),
        (
            "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
            "Llama-3.1-8B-Instruct-SAE-l19.pth",
            "blocks.19.hook_resid_post",
        ),
    ],
)
def test_goodfire(published, repo, file, hook):
    published.put(repo, {file: weights(GOODFIRE)})
    sae, (ours, _) = theirs("goodfire", repo, file), published.ours(repo, file)
    assert ours.hook == sae.cfg.metadata.hook_name == hook
    assert ours.model == sae.cfg.metadata.model_name
    check(ours, sae.encode, sae.decode)


def test_deepseek_r1(published):
    repo = "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    file = "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
    published.put(repo, {file: weights(LINEAR)})
    sae, (ours, told) = theirs("deepseek_r1", repo, file), published.ours(repo, file)
    assert ours.hook == sae.cfg.metadata.hook_name == "blocks.19.hook_resid_post"
    assert ours.model == sae.cfg.metadata.model_name
    assert told.said["context"].value == sae.cfg.metadata.context_size
    check(ours, sae.encode, sae.decode)


@pytest.mark.parametrize("format", ["auto", "connor-rob"])
def test_connor_rob(published, format):
    run = "gpt2-small_L7_Hcat_z_lr1.20e-03_l11.10e+00_ds49152_bs4096_dc1.00e-06_rie25000_nr4_v9"
    repo = "ckkissane/attn-saes-gpt2-small-all-layers"
    settings = {
        **{"act_size": D_MODEL, "dict_size": D_SAE, "act_name": "blocks.7.attn.hook_z"},
        **{"model_name": "gpt2-small", "seq_len": 128, "enc_dtype": "fp32", "site": "z"},
    }
    published.put(repo, {f"{run}.pt": weights(STANDARD), f"{run}_cfg.json": settings})
    sae = theirs("connor_rob_hook_z", repo, f"{run}.pt")
    ours, told = published.ours(repo, f"{run}.pt", format)
    assert ours.hook == sae.cfg.metadata.hook_name == "blocks.7.attn.hook_z"
    assert ours.model == sae.cfg.metadata.model_name
    assert told.said["context"].value == sae.cfg.metadata.context_size
    check(ours, sae.encode, sae.decode)


# Those that are not: refused by name


TEMPORAL = """\
llm: {dimin: 24}
sae: {exp_factor: 2, n_heads: 2, n_attn_layers: 1, bottleneck_factor: 4, sae_diff_type: topk,
  kval_topk: 4, tied_weights: true, scaling_factor: 0.5}
data: {dtype: float32}
"""
WANDB = "d_model: {value: 24}\nd_feature: {value: 64}\nbatch_size: {value: 8}\n"
HOOKS = (
    "model_name: gemma-2-2b\nfeature_input_hook: hook_mlp_in\nfeature_output_hook: hook_mlp_out\n"
)
CLT_DECODER = {"W_dec_0": (D_SAE, 3, D_MODEL)}
CLT = {"W_enc_0": (D_SAE, D_MODEL), "b_enc_0": (D_SAE,), "b_dec_0": (D_MODEL,)}
# By loader: repository, what the loader is asked for, files, what ours is asked for, and the name.
OTHERS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "gemma_3 transcoder": (
        "google/gemma-scope-2-4b-pt",
        "transcoder_all/layer_17_width_16k_l0_big",
        {"transcoder_all/layer_17_width_16k_l0_big/params.safetensors": weights(LOWER)},
        "transcoder_all/layer_17_width_16k_l0_big",
        "one of Gemma Scope 2's transcoders",
    ),
    "gemma_3 affine": (
        "google/gemma-scope-2-4b-pt",
        "transcoder/layer_17_width_16k_l0_big_affine",
        {
            "transcoder/layer_17_width_16k_l0_big_affine/params.safetensors": weights(
                {**LOWER, "affine_skip_connection": (D_MODEL, D_MODEL)}
            ),
            "transcoder/layer_17_width_16k_l0_big_affine/config.json": {
                "architecture": "jump_relu",
                "model_name": "google/gemma-3-4b-pt",
                "affine_connection": True,
            },
        },
        "transcoder/layer_17_width_16k_l0_big_affine",
        "one of Gemma Scope 2's transcoders",
    ),
    "gemma_2_transcoder": (
        "google/gemma-scope-2b-pt-transcoders",
        "layer_3/width_16k/average_l0_54",
        {
            "layer_3/width_16k/average_l0_54/params.npz": weights(
                {**STANDARD, "threshold": (D_SAE,)}
            )
        },
        "layer_3/width_16k/average_l0_54",
        "one of Gemma Scope's transcoders, no SAE",
    ),
    "mwhanna_transcoder": (
        "mwhanna/qwen3-4b-transcoders",
        "layer_0.safetensors",
        {
            "wandb-config.yaml": WANDB,
            "config.yaml": "model_name: Qwen/Qwen3-4B\n",
            "layer_0.safetensors": weights({**STANDARD, "W_enc": (D_SAE, D_MODEL)}),
        },
        "layer_0.safetensors",
        "one of circuit-tracer's transcoders",
    ),
    "mntss_clt_layer_transcoder": (
        "mntss/clt-gemma-2-2b-2.5M",
        "0",
        {
            "config.yaml": HOOKS,
            "W_enc_0.safetensors": weights(CLT),
            "W_dec_0.safetensors": weights(CLT_DECODER),
        },
        "W_enc_0.safetensors",
        "a layer of a cross-layer transcoder",
    ),
    "temporal": (
        "canrager/temporalSAEs",
        "gemma-2-2B/layer_12/temporal",
        {
            "gemma-2-2B/layer_12/temporal/conf.yaml": TEMPORAL,
            "gemma-2-2B/layer_12/temporal/latest_ckpt.safetensors": weights(
                {"D": (48, D_MODEL), "b": (D_MODEL,), "attn_layers.0.q.weight": (4, D_MODEL)}
            ),
        },
        "gemma-2-2B/layer_12/temporal",
        "a temporal SAE",
    ),
}


READ = {
    *("sae_lens", "gemma_2", "dictionary_learning_1", "sparsify", "gemma_3", "qwen_scope"),
    *("llama_scope", "llama_scope_r1_distill", "goodfire", "deepseek_r1", "connor_rob_hook_z"),
}


def test_every_loader_is_looked_at():
    refused = {name.partition(" ")[0] for name in OTHERS}
    assert READ | refused == loaders.NAMED_PRETRAINED_SAE_LOADERS.keys()
    assert set(FORMATS) == READ


@pytest.mark.filterwarnings("ignore:This loads the CLT layer")
@pytest.mark.parametrize("case", OTHERS)
def test_what_saelens_loads_and_is_no_sae_is_refused_by_name(published, case):
    repo, folder, files, asked, what = OTHERS[case]
    published.put(repo, files)
    settings, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[case.partition(" ")[0]](
        repo, folder, "cpu", False, None
    )
    assert state and settings["architecture"]
    for name, content in files.items():
        path = published.folder / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(name, content))
    with pytest.raises(StudyError, match=re.escape(what)) as caught:
        load_sae(published.folder / repo / asked)
    assert "\n" not in str(caught.value)

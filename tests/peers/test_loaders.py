"""Every loader that SAELens has for published SAEs, on stand-ins of their files, against ours.

Either both give the same SAE at the same place, or the file is refused here by its real name. The
stand-ins are laid out as the loaders look for them, and each is read by its loader first.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REASON = "needs SAELens; run make test-peers"
sae_lens = pytest.importorskip("sae_lens", reason=REASON)

import torch  # noqa: E402
from helpers.peers import D_MODEL, D_SAE, check, inputs  # noqa: E402
from sae_lens.loading import pretrained_sae_loaders as loaders  # noqa: E402
from sae_stitching.base.errors import StudyError  # noqa: E402
from sae_stitching.formats import find_local, places  # noqa: E402
from sae_stitching.formats.pretrained import load_sae, read_files  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

STANDARD = {"W_enc": (D_MODEL, D_SAE), "W_dec": (D_SAE, D_MODEL), "b_enc": (D_SAE,)}
STANDARD["b_dec"] = (D_MODEL,)
LINEAR = {"encoder.weight": (D_SAE, D_MODEL), "decoder.weight": (D_MODEL, D_SAE)}
LINEAR |= {"encoder.bias": (D_SAE,), "decoder.bias": (D_MODEL,)}
TURNED = {**STANDARD, "W_enc": (D_SAE, D_MODEL), "W_dec": (D_MODEL, D_SAE)}


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch) -> Path:
    """A folder of repositories, from which SAELens' loaders take their files."""

    def local(repo_id: str, filename: str, subfolder: str = "", **_: Any) -> str:
        path = tmp_path / repo_id / subfolder / filename
        if not path.is_file():
            raise loaders.EntryNotFoundError(str(path))
        return str(path)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safe_open(local(repo_id, filename), framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118

    monkeypatch.setattr(loaders, "hf_hub_download", local)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
    return tmp_path


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    # Small thresholds, so that latents fire.
    return {
        name: (0.1 if "threshold" in name else 0.4) * torch.randn(*shape, generator=generator)
        for name, shape in shapes.items()
    }


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in content.items()})
    elif path.suffix in (".pt", ".pth"):
        torch.save(content, path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def theirs(loader: str, repo: str, folder: str) -> Any:
    """The SAE that a loader of SAELens makes."""
    settings, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader](
        repo, folder, "cpu", False, {"d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32"}
    )
    settings = loaders.handle_config_defaulting(settings)
    sae = sae_lens.SAE.get_sae_class_for_architecture(settings["architecture"]).from_dict(settings)
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sae


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
def test_gemma_scope(hub, kind, hook, size, model):
    repo, folder = f"google/gemma-scope-{size}-{kind}", "layer_12/width_16k/average_l0_41"
    path = hub / repo / folder / "params.npz"
    write(path, weights({**STANDARD, "threshold": (D_SAE,)}))
    sae = theirs("gemma_2", repo, folder)
    ours, told = read_files(find_local(str(path)), f"{repo}/{folder}/params.npz")
    assert ours.hook == sae.cfg.metadata.hook_name == hook
    assert ours.model == f"google/{sae.cfg.metadata.model_name}" == f"google/{model}"
    assert told.said["context"].value == sae.cfg.metadata.context_size
    # Of attention, heads stand beside each other already.
    sae.turn_off_forward_pass_hook_z_reshaping()
    check(ours, sae.encode, sae.decode)


def test_gemmas_embedding_is_scaled(hub):
    repo, folder = "google/gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6"
    path = hub / repo / folder / "params.npz"
    tensors = weights({**STANDARD, "threshold": (D_SAE,)})
    write(path, tensors)
    sae = theirs("gemma_2", repo, folder)
    ours, _ = read_files(find_local(str(path)), f"{repo}/{folder}/params.npz")
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
def test_dictionary_learning(hub, kind):
    # AutoEncoderNew is left out: SAELens' loader subtracts its bias from the input, which the
    # library itself does not; test_peers holds ours against the library.
    repo, folder = "canrager/lm_sae", "resid_post_layer_3/trainer_0"
    trainer = {"dict_class": kind, "activation_dim": D_MODEL, "dict_size": D_SAE, "k": 5}
    trainer |= {"layer": 3, "lm_name": "EleutherAI/pythia-70m-deduped"}
    config = {"trainer": trainer, "buffer": {"ctx_len": 128}}
    write(hub / repo / folder / "config.json", config)
    write(hub / repo / folder / "ae.pt", DICTIONARIES[kind])
    sae = theirs("dictionary_learning_1", repo, folder)
    ours, told = read_files(find_local(str(hub / repo / folder)))
    assert ours.hook == sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert ours.model.endswith(f"/{sae.cfg.metadata.model_name}")
    assert told.said["context"].value == sae.cfg.metadata.context_size == 128
    if kind == "AutoEncoder":  # whose latents the library scales to unit decoder directions
        x = inputs()
        torch.testing.assert_close(ours.decode(ours.encode(x)), sae(x), rtol=1e-5, atol=1e-5)
    else:
        check(ours, sae.encode, sae.decode)


@pytest.mark.parametrize("folder", ["layers.5", "layers_5", "embed_tokens"])
def test_sparsify_names_of_places(hub, folder):
    # The weights are not compared: SAELens' loader turns W_dec, which sparsify has as (d_sae,
    # d_model) already. test_peers holds them against sparsify itself.
    place = hub / "EleutherAI/sae-pythia-70m-32k" / folder
    write(place / "cfg.json", {"d_in": D_MODEL, "num_latents": D_SAE, "k": 5})
    tensors = weights({**STANDARD, **OF_LINEAR})
    write(
        place / "sae.safetensors",
        {name: tensors[name] for name in ("encoder.weight", "encoder.bias", "W_dec", "b_dec")},
    )
    write(place.parent / "config.json", {"sae": {}, "hookpoints": [], "model": "x", "ctx_len": 9})
    settings, state = loaders.sparsify_disk_loader(place)
    assert state["W_dec"].shape == (D_MODEL, D_SAE)
    ours, told = read_files(find_local(str(place)))
    assert places.hook(folder) == ours.hook == settings["hook_name"]
    assert (ours.model, told.said["context"].value) == (
        settings["model_name"],
        settings["context_size"],
    )


# Those that are not: refused by name


JUMPRELU3 = {name.replace("W_", "w_"): shape for name, shape in STANDARD.items()}
JUMPRELU3["threshold"] = (D_SAE,)
GOODFIRE = {
    "encoder_linear.weight": (D_SAE, D_MODEL),
    "encoder_linear.bias": (D_SAE,),
    "decoder_linear.weight": (D_MODEL, D_SAE),
    "decoder_linear.bias": (D_MODEL,),
}
R1_SETTINGS = {
    "d_model": D_MODEL,
    "expansion_factor": 2,
    "hook_point_in": "blocks.0.hook_resid_post",
}
LLAMA_SETTINGS = {
    **{"d_model": D_MODEL, "d_sae": D_SAE, "jump_relu_threshold": 0.5},
    "hook_point_in": "blocks.0.hook_resid_post",
    "dataset_average_activation_norm": {"in": 3.0},
}
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
LINEARS_OF_LLAMA = {"log_jumprelu_threshold": (D_SAE,), **LINEAR}
# By loader: repository, what the loader is asked for, files, what ours is asked for, and the name.
OTHERS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "gemma_3": (
        "google/gemma-scope-2-4b-pt",
        "resid_post/layer_17_width_16k_l0_big",
        {"resid_post/layer_17_width_16k_l0_big/params.safetensors": weights(JUMPRELU3)},
        "resid_post/layer_17_width_16k_l0_big",
        "of Gemma Scope 2",
    ),
    "llama_scope": (
        "fnlp/Llama3_1-8B-Base-LXR-8x",
        "Llama3_1-8B-Base-L15R-8x",
        {
            "Llama3_1-8B-Base-L15R-8x/hyperparams.json": LLAMA_SETTINGS,
            "Llama3_1-8B-Base-L15R-8x/checkpoints/final.safetensors": weights(LINEAR),
        },
        "Llama3_1-8B-Base-L15R-8x",
        "of Llama Scope",
    ),
    "llama_scope_r1_distill": (
        "fnlp/Llama-Scope-R1-Distill",
        "400M/L15R",
        {
            "400M/L15R/config.json": R1_SETTINGS,
            "400M/L15R/sae_weights.safetensors": weights(LINEARS_OF_LLAMA),
        },
        "400M/L15R",
        "of Language-Model-SAEs (Llama Scope R1-Distill)",
    ),
    "goodfire": (
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
        {"Llama-3.1-8B-Instruct-SAE-l19.pth": weights(GOODFIRE)},
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
        "of Goodfire",
    ),
    "qwen_scope": (
        "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50",
        "layer7.sae.pt",
        {"layer7.sae.pt": weights(TURNED)},
        "layer7.sae.pt",
        "of Qwen Scope",
    ),
    # Four tensors of two linear layers, and no settings: nothing tells whose they are.
    "deepseek_r1": (
        "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
        {"DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt": weights(LINEAR)},
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
        "read only as a file of dictionary-learning, which has config.json beside it",
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
    # As an SAE of SAELens turned, which it may be for all that its tensors tell.
    "mwhanna_transcoder": (
        "mwhanna/qwen3-4b-transcoders",
        "layer_0.safetensors",
        {
            "wandb-config.yaml": WANDB,
            "config.yaml": "model_name: Qwen/Qwen3-4B\n",
            "layer_0.safetensors": weights({**STANDARD, "W_enc": (D_SAE, D_MODEL)}),
        },
        "layer_0.safetensors",
        "read only as a file of saelens, which has cfg.json beside it",
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
    "connor_rob_hook_z": (
        "ckkissane/attn-saes-gpt2-small-all-layers",
        "gpt2-small_L0_Hcat_z_lr1.20e-03_v9.pt",
        {
            "gpt2-small_L0_Hcat_z_lr1.20e-03_v9.pt": weights(STANDARD),
            "gpt2-small_L0_Hcat_z_lr1.20e-03_v9_cfg.json": {
                **{"act_size": D_MODEL, "dict_size": D_SAE},
                "act_name": "blocks.0.attn.hook_z",
            },
        },
        "gpt2-small_L0_Hcat_z_lr1.20e-03_v9.pt",
        "of Neel Nanda's 1L-Sparse-Autoencoder, or one of its descendants",
    ),
}


def test_every_loader_is_looked_at():
    here = {"sae_lens", "gemma_2", "dictionary_learning_1", "sparsify"}
    assert here | OTHERS.keys() == loaders.NAMED_PRETRAINED_SAE_LOADERS.keys()


@pytest.mark.filterwarnings("ignore:This loads the CLT layer")
@pytest.mark.parametrize("loader", OTHERS)
def test_what_saelens_loads_and_we_do_not_is_refused_by_name(hub, loader):
    repo, folder, files, asked, what = OTHERS[loader]
    for name, content in files.items():
        write(hub / repo / name, content)
    settings, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader](
        repo, folder, "cpu", False, None
    )
    assert state and settings["architecture"]
    with pytest.raises(StudyError, match=re.escape(what)) as caught:
        load_sae(hub / repo / asked)
    assert "\n" not in str(caught.value)

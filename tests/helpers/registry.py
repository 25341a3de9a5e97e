"""A registry of published SAEs as SAELens writes it, with a few entries of each kind."""

import hashlib
from pathlib import Path

import yaml
from helpers.package_index import write_wheel
from sae_stitching.formats.registry import Registry

CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def _feature_splitting(d_sae: int) -> dict:
    name = f"blocks.8.hook_resid_pre_{d_sae}"
    np = f"gpt2-small/8-res_fs{d_sae}-jb"
    return {"id": name, "path": name, "l0": 35.0, "variance_explained": 0.7, "neuronpedia": np}


def _gemma(layer: int, width: str, l0: int) -> dict:
    path = f"layer_{layer}/width_{width}/average_l0_{l0}"
    return {"id": path, "path": path, "l0": l0}


def _canonical(layer: int, width: str, l0: int) -> dict:
    folder = f"layer_{layer}/width_{width}"
    np = f"gemma-2-2b/{layer}-gemmascope-res-{width}"
    return {
        "id": f"{folder}/canonical", "path": f"{folder}/average_l0_{l0}", "neuronpedia": np
    }  # fmt: skip


def _same(name: str, **told) -> dict:
    return {"id": name, "path": name, **told}


RELEASES = {
    "gpt2-small-res-jb": {
        "repo_id": "jbloom/GPT2-Small-SAEs-Reformatted",
        "model": "gpt2-small",
        "conversion_func": None,
        "config_overrides": CENTRED,
        "saes": [_same(f"blocks.{layer}.hook_resid_pre", l0=10.0) for layer in range(12)],
    },
    "gpt2-small-res-jb-feature-splitting": {
        "repo_id": "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
        "model": "gpt2-small",
        "conversion_func": None,
        "config_overrides": {"dataset_path": "Skylion007/openwebtext", **CENTRED},
        "saes": [_feature_splitting(768 * 2**i) for i in range(8)],
    },
    "gemma-scope-2b-pt-res": {
        "repo_id": "google/gemma-scope-2b-pt-res",
        "model": "gemma-2-2b",
        "conversion_func": "gemma_2",
        "saes": [
            _same("embedding/width_4k/average_l0_6", l0=6),
            *(_gemma(12, "16k", l0) for l0 in (22, 41, 82)),
            *(_gemma(12, "32k", l0) for l0 in (22, 40, 76)),
            *(_gemma(12, "1m", l0) for l0 in (26, 58)),
            *(_gemma(20, "16k", l0) for l0 in (20, 71)),
        ],
    },
    "gemma-scope-2b-pt-res-canonical": {
        "repo_id": "google/gemma-scope-2b-pt-res",
        "model": "gemma-2-2b",
        "conversion_func": "gemma_2",
        "saes": [_canonical(12, "16k", 82), _canonical(12, "32k", 76), _canonical(12, "65k", 72)],
    },
    "gemma-scope-2-270m-pt-att-all": {
        "repo_id": "google/gemma-scope-2-270m-pt",
        "model": "google/gemma-3-270m",
        "conversion_func": "gemma_3",
        "saes": [
            {"id": f"layer_1_width_{w}_l0_big", "path": f"attn_out_all/layer_1_width_{w}_l0_big"}
            for w in ("16k", "262k")
        ],
    },
    "gemma-scope-2-270m-pt-transcoders": {
        "repo_id": "google/gemma-scope-2-270m-pt",
        "model": "google/gemma-3-270m",
        "conversion_func": "gemma_3",
        "saes": [{"id": "layer_9_width_16k_l0_big", "path": "transcoder/layer_9_width_16k_l0_big"}],
    },
    "llama_scope_lxr_8x": {
        "repo_id": "fnlp/Llama3_1-8B-Base-LXR-8x",
        "model": "meta-llama/Llama-3.1-8B",
        "conversion_func": "llama_scope",
        "saes": [{"id": "l16r_8x", "path": "Llama3_1-8B-Base-L16R-8x", "norm_scaling_factor": 5.2}],
    },
    "qwen-scope-3.5-27b-w80k-l50": {
        "repo_id": "Qwen/SAE-Res-Qwen3.5-27B-W80K-L0_50",
        "model": "Qwen/Qwen3.5-27B",
        "conversion_func": "qwen_scope",
        "saes": [{"id": "layer32", "path": "layer32.sae.pt", "l0": 50}],
    },
    "sae_bench_pythia70m_sweep_topk_ctx128_0730": {
        "repo_id": "canrager/lm_sae",
        "model": "pythia-70m-deduped",
        "conversion_func": "dictionary_learning_1",
        "saes": [
            {
                "id": f"blocks.4.hook_resid_post__trainer_{i}",
                "path": f"pythia70m_sweep_topk_ctx128_0730/resid_post_layer_4/trainer_{i}",
                "neuronpedia": f"pythia-70m-deduped/4-sae_bench-topk-res-{w}__trainer_{i}",
            }
            for i, w in enumerate(("4k", "16k"))
        ],
    },
    "gpt2-small-hook-z-kk": {
        "repo_id": "ckkissane/attn-saes-gpt2-small-all-layers",
        "model": "gpt2-small",
        "conversion_func": "connor_rob_hook_z",
        "saes": [
            {
                "id": "blocks.0.hook_z",
                "path": "gpt2-small_L0_Hcat_z_lr1.20e-03_l11.80e+00_ds24576_bs4096_dc1.00e-06.pt",
            }
        ],
    },
    "gpt2-small-resid-mid-v5-128k": {
        "repo_id": "jbloom/GPT2-Small-OAI-v5-128k-resid-mid-SAEs",
        "model": "gpt2-small",
        "conversion_func": None,
        "saes": [{"id": "blocks.6.hook_resid_mid", "path": "v5_128k_layer_6"}],
    },
    "temporal-sae-gemma-2-2b": {
        "repo_id": "canrager/temporalSAEs",
        "model": "gemma-2-2b",
        "conversion_func": "temporal",
        "saes": [{"id": "blocks.12.hook_resid_post", "path": "gemma-2-2B/layer_12/temporal"}],
    },
    "tomorrows": {
        "repo_id": "somebody/saes",
        "model": "gpt2-small",
        "conversion_func": "of_tomorrow",
        "saes": [{"id": "blocks.6.hook_resid_pre", "path": "6"}],
    },
}
TEXT = yaml.safe_dump(RELEASES)
PIN = {"version": "6.54.12", "sha256": hashlib.sha256(TEXT.encode()).hexdigest()}


def registry() -> Registry:
    return Registry(RELEASES, PIN["version"])


def write_index(folder: Path, text: str = TEXT) -> None:
    """Write a wheel of sae-lens that holds `text`, as pip would find it."""
    write_wheel(folder, "sae_lens", PIN["version"], {"sae_lens/pretrained_saes.yaml": text})

"""Kissane's and Krzyzanowski's attention SAEs: ``<run>.pt`` with ``<run>_cfg.json`` beside it.

Kissane et al., 2024, "Attention SAEs scale to GPT-2 Small"; on the hub
ckkissane/attn-saes-gpt2-small-all-layers, written by a descendant of Neel Nanda's
1L-Sparse-Autoencoder (``utils.py``): f = ReLU((x − b_dec) W_enc + b_enc), of all heads' z side by
side.

They were trained on TransformerLens' GPT-2, whose z lacks the value biases: it folds them into the
bias of the output. A study's z has them, see `agreement`.
"""

from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, read_state_dict
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of that library."""
    del name
    assert layout.settings is not None
    settings = Settings.read(layout.settings)
    sizes = (settings.integer(key) for key in ("act_size", "dict_size"))
    weights = Weights(layout.weights, read_state_dict(layout.weights), *sizes)
    sae = SAE(
        W_enc=weights.take("W_enc", "d_model", "d_sae"),
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="relu",
    )
    weights.finish("an SAE of 1L-Sparse-Autoencoder")
    told = Told()
    for topic, key in (("hook", "act_name"), ("model", "model_name")):
        told.tell(topic, settings.text(key, "") or None, f"{settings.path}: {key}")
    told.tell_number("context", settings.values.get("seq_len"), f"{settings.path}: seq_len")
    told.tell("fold_value_biases", True, f"{settings.path}: TransformerLens' fold_value_biases")
    dtype = settings.text("enc_dtype", "")
    told.tell("dtype", _DTYPES.get(dtype, dtype) or None, f"{settings.path}: enc_dtype")
    return sae, told

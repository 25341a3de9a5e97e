"""Places in a language model by the names that libraries have for them.

TransformerLens calls what enters block 5 ``blocks.5.hook_resid_pre``, Hugging Face names the module
(``model.layers.4``), nnsight says which side of it is meant (``model.layers[4].output[0]``), and
dictionary_learning's recipes write ``resid_post_layer_4``. `hook` gives TransformerLens' name for
whichever of them it is told in, and `same` tells whether two of those are one place.
"""

import re

from sae_stitching.activations.language_model import HEADS, OUTPUT_PROJECTIONS

# Below `blocks.<layer>.`: other names, of TransformerLens' bridge among them, for its usual hooks.
_HOOKS = {
    "hook_in": "hook_resid_pre",
    "hook_out": "hook_resid_post",
    "ln1.hook_in": "hook_resid_pre",
    "ln2.hook_in": "hook_resid_mid",
    "ln1.hook_out": "ln1.hook_normalized",
    "ln2.hook_out": "ln2.hook_normalized",
    "attn.hook_in": "ln1.hook_normalized",
    "mlp.hook_in": "ln2.hook_normalized",
    "attn.hook_out": "attn",
    "mlp.hook_out": "mlp",
    "attn.o.hook_in": HEADS,
    "attn.o.hook_out": "attn",
    "mlp.out.hook_in": "mlp.hook_post",
    "mlp.out.hook_out": "mlp",
    "ln1_post.hook_out": "hook_attn_out",
    "ln2_post.hook_out": "hook_mlp_out",
    "ln1_post.hook_in": "attn",
    "ln2_post.hook_in": "mlp",
}
# Modules of a block in transformers' models: what goes in, and what comes out.
_BLOCK, _ATTENTION, _MLP = ("hook_resid_pre", "hook_resid_post"), "attn", "mlp"
_LN1, _LN2 = "ln1.hook_normalized", "ln2.hook_normalized"
_MODULES = {
    "": _BLOCK,
    **dict.fromkeys(("attn", "self_attn", "attention", "self_attention"), (_LN1, _ATTENTION)),
    **dict.fromkeys(("mlp", "feed_forward", "ffn", "block_sparse_moe"), (_LN2, _MLP)),
    **dict.fromkeys(OUTPUT_PROJECTIONS, (HEADS, _ATTENTION)),
    **dict.fromkeys(
        ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc_out", "mlp.fc2"),
        ("mlp.hook_post", _MLP),
    ),
    **dict.fromkeys(("input_layernorm", "ln_1", "norm_1", "ln1"), ("hook_resid_pre", _LN1)),
    **dict.fromkeys(
        ("pre_feedforward_layernorm", "ln_2", "norm_2", "ln2"), ("hook_resid_mid", _LN2)
    ),
    # Between attention and the residual stream, or after it: see `hook`.
    "post_attention_layernorm": ("hook_resid_mid", _LN2),
    "post_self_attn_layernorm": (_ATTENTION, "hook_attn_out"),
    "post_feedforward_layernorm": (_MLP, "hook_mlp_out"),
    "post_mlp_layernorm": (_MLP, "hook_mlp_out"),
}
# Modules outside of the blocks.
_OUTSIDE = {
    **dict.fromkeys(("embed_tokens", "embed_in", "wte", "word_embeddings", "embed"), "hook_embed"),
    **dict.fromkeys(("wpe", "embed_positions", "pos_embed"), "hook_pos_embed"),
    **dict.fromkeys(
        ("norm", "ln_f", "final_layer_norm", "final_layernorm", "ln_final"),
        "ln_final.hook_normalized",
    ),
    **dict.fromkeys(("lm_head", "embed_out", "unembed"), "unembed.hook_out"),
}
# As dictionary_learning's recipes call submodules.
_SUBMODULES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    **dict.fromkeys(("resid_post", "resid_out", "resid"), "hook_resid_post"),
    **dict.fromkeys(("attention_out", "attn_out", "attention", "attn"), _ATTENTION),
    **dict.fromkeys(("mlp_out", "mlp"), _MLP),
}
# What stands before the list of blocks; a tower of an image or of an encoder is none of these.
_ROOTS = (
    r"(?:(?:model|transformer|gpt_neox|decoder|language_model|text_model|backbone|base_model)\.)*"
)


def hook(name: str, *, post_norms: bool = False) -> str:
    """TransformerLens' name for the place that `name` means; empty where it is not understood.

    Parameters
    ----------
    name
        A hook of TransformerLens, a module of transformers' models, perhaps with nnsight's
        ``.output`` or ``.input``, or a submodule of dictionary_learning's recipes.
    post_norms
        Whether blocks norm what attention and MLP write to the residual stream (Gemma 2 and 3,
        OLMo 2). Such a norm lies between the module ``mlp`` and ``hook_mlp_out``, and what is
        called ``post_attention_layernorm`` is one, not the norm before the MLP.

    Examples
    --------
    >>> from sae_stitching.formats.places import hook
    >>> hook("gpt_neox.layers.4"), hook("model.layers[4].output[0]"), hook("h.5.mlp")
    ('blocks.4.hook_resid_post', 'blocks.4.hook_resid_post', 'blocks.5.hook_mlp_out')
    >>> hook("model.layers.4.mlp", post_norms=True), hook("vision_tower.layers.4")
    ('blocks.4.mlp.hook_out', '')
    """
    if re.fullmatch(r"hook_(pos_)?embed|hook_tokens|ln_final\.hook_\w+|unembed\.hook_\w+", name):
        return name
    if known := re.fullmatch(r"blocks\.(\d+)\.((?:\w+\.)*hook_\w+)", name):
        return _in_block(int(known[1]), _HOOKS.get(known[2], known[2]), post_norms)
    if submodule := re.fullmatch(r"([a-z_]+?)_?layer_?(\d+)", name):
        point = _SUBMODULES.get(submodule[1], "")
        return _in_block(int(submodule[2]), point, post_norms) if point else ""
    path, side = _module(name)
    block = re.fullmatch(rf"{_ROOTS}(?:layers?|h|blocks?)[._](\d+)(?:\.([\w.]+))?", path)
    if block is None:
        outside = re.fullmatch(rf"{_ROOTS}(\w+)", path)
        return _OUTSIDE.get(outside[1], "") if outside and side == "output" else ""
    module = block[2] or ""
    inputs = _MODULES.get(module, ("", ""))
    if module == "post_attention_layernorm" and post_norms:
        inputs = (_ATTENTION, "hook_attn_out")
    point = inputs[0] if side == "input" else inputs[1]
    return _in_block(int(block[1]), point, post_norms) if point else ""


def same(one: str, other: str) -> bool:
    """Whether two hooks are one place: what leaves a block is what enters the next."""
    return _entered(one) == _entered(other)


def layer_of(hook: str) -> int | None:
    """Number of a hook's block; None of a hook outside of the blocks."""
    match = re.match(r"blocks\.(\d+)\.", hook)
    return int(match[1]) if match else None


def looks_like_a_place(name: str) -> bool:
    """Whether a folder's name seems to tell a place, rather than being any name at all."""
    return bool(hook(name)) or bool(re.search(r"(?:^|\.)(?:layers?|h|blocks?)[._]\d", name))


def _entered(hook: str) -> str:
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", hook)
    return f"blocks.{int(match[1]) + 1}.hook_resid_pre" if match else hook


def _module(name: str) -> tuple[str, str]:
    """Path of a module, with dots, and which side of it is meant."""
    dotted = re.sub(r"\[(\d+)\]", r".\1", name)
    sided = re.fullmatch(r"(.+?)\.(inputs?|output)((?:\.0)*)", dotted)
    if sided is None:
        return dotted, "output"
    return sided[1], "output" if sided[2] == "output" else "input"


def _in_block(layer: int, point: str, post_norms: bool) -> str:
    if point in (_ATTENTION, _MLP):
        point = f"{point}.hook_out" if post_norms else f"hook_{point}_out"
    return f"blocks.{layer}.{point}"

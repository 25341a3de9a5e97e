"""Goodfire's SAEs of Llama 3: one file, such as ``Llama-3.1-8B-Instruct-SAE-l19.pth``.

The model cards of Goodfire/Llama-3.1-8B-Instruct-SAE-l19 and
Goodfire/Llama-3.3-70B-Instruct-SAE-l50 on the hub: two linear layers with biases and ReLU between,
so that b_dec is not subtracted from the input. The file's name tells the model and the layer.
"""

import re
from pathlib import PurePosixPath

from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, linear, read_state_dict, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Who published a model, by the beginning of its name.
_OWNERS = {"Llama": "meta-llama", "DeepSeek": "deepseek-ai"}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Goodfire."""
    sae = read_linear(layout.weights, "encoder_linear", "decoder_linear", "an SAE of Goodfire")
    return sae, told_by_name(name)


def read_linear(path: str, encoder: str, decoder: str, what: str) -> SAE:
    """Read an SAE that is two linear layers, by their names, with ReLU between."""
    tensors = read_state_dict(path)
    sizes = [vector_length(path, tensors, f"{layer}.bias") for layer in (decoder, encoder)]
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        **linear(weights, f"{encoder}.weight", f"{decoder}.weight"),
        b_enc=weights.take(f"{encoder}.bias", "d_sae"),
        b_dec=weights.take(f"{decoder}.bias", "d_model"),
        architecture="relu",
        apply_b_dec_to_input=False,
    )
    weights.finish(what)
    return sae


def told_by_name(name: str) -> Told:
    """What a file's name tells, of the form ``<model>-SAE-l<layer>.pt``."""
    told, file = Told(), PurePosixPath(name).name
    if match := re.fullmatch(r"((\w+)-.+)-SAE-l(\d+)\.pth?", file):
        owner = f"{_OWNERS[match[2]]}/" if match[2] in _OWNERS else ""
        told.tell("model", f"{owner}{match[1]}", f"{name}: the file's name")
        told.tell("hook", f"blocks.{match[3]}.hook_resid_post", f"{name}: the file's name")
    return told

"""qresearch's SAE of DeepSeek R1: one file, ``DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt``.

The model card of qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19 on the hub: two linear layers with
biases and ReLU between, so that b_dec is not subtracted from the input. The file's name tells the
model and the layer.
"""

from sae_stitching.formats import Layout
from sae_stitching.formats.goodfire import read_linear, told_by_name
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Tokens in a sequence, as SAELens has it.
_CONTEXT = 1024


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of qresearch."""
    told = told_by_name(name)
    told.tell("context", _CONTEXT, "SAELens' context of DeepSeek R1's SAE")
    return read_linear(layout.weights, "encoder", "decoder", "an SAE of qresearch"), told

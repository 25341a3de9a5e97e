"""Qwen Scope: TopK SAEs, one file a layer, ``layer7.sae.pt``.

The repositories Qwen/SAE-Res-* on the hub, and their model cards. f keeps the k largest of
z = x W_enc + b_enc, and of them those above zero; b_dec is not subtracted from the input. Both
matrices are kept turned, W_enc as (d_sae, d_model) and W_dec as (d_model, d_sae). The model, and k,
are told by the repository's name alone, the layer by the file's.
"""

import re
from pathlib import Path

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, linear, read_state_dict, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Tokens in a sequence, as SAELens has it.
_CONTEXT = 1024


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Qwen Scope; `name` is its path on the hub, or one that ends so."""
    published = Path(name).absolute().as_posix()
    repository = re.search(r"SAE-Res-([^/]+)-W\d+K-L0_(\d+)(?=/)", published)
    if repository is None:
        raise StudyError(
            f"{name}: nothing tells its k; keep the file in a folder that is called as Qwen's "
            "repository, such as SAE-Res-Qwen3-1.7B-Base-W32K-L0_50"
        )
    path, model, k = layout.weights, repository[1], int(repository[2])
    tensors = read_state_dict(path)
    sizes = [vector_length(path, tensors, key) for key in ("b_dec", "b_enc")]
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        **linear(weights, "W_enc", "W_dec"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="topk",
        k=k,
        apply_b_dec_to_input=False,
    )
    weights.finish("an SAE of Qwen Scope")
    told = Told()
    told.tell("model", f"Qwen/{model}", f"{name}: the repository")
    if layer := re.search(r"/layer(\d+)\.sae\.pt$", published):
        told.tell("hook", f"blocks.{layer[1]}.hook_resid_post", f"{name}: the file's name")
    told.tell("context", _CONTEXT, "SAELens' context of Qwen Scope")
    return sae, told

"""sparsify: TopK SAEs as ``cfg.json`` and ``sae.safetensors``.

b_dec is always subtracted from the input; `normalize_decoder` is of training only.
"""

import re
from pathlib import PurePath

from sae_stitching.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, read_safetensors
from sae_stitching.sae import SAE

# What other settings than these compute no SAE of ours can express.
_EXPECTED = {"activation": "topk", "transcode": False, "skip_connection": False, "signed": False}
# The folder is named for the module whose output is read; a block's output is the residual stream.
_POINTS = {"": "hook_resid_post", "mlp": "hook_mlp_out", "attn": "hook_attn_out"}


def read(layout: Layout) -> SAE:
    """Read an SAE of sparsify; its hook is known where the folder is named for a module."""
    assert layout.settings is not None
    settings = Settings.read(layout.settings)
    for key, expected in _EXPECTED.items():
        if (value := settings.values.get(key, expected)) != expected:
            raise StudyError(
                f"{layout.settings}: {key} is {value!r}; only {expected!r} can be imported"
            )
    d_model = settings.integer("d_in")
    # Zero means that the factor tells the size.
    if settings.values.get("num_latents"):
        d_sae = settings.integer("num_latents")
    else:
        d_sae = d_model * settings.integer("expansion_factor")
    weights = Weights(layout.weights, read_safetensors(layout.weights), d_model, d_sae)
    sae = SAE(
        W_enc=weights.take("encoder.weight", "d_sae", "d_model").T.contiguous(),
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("encoder.bias", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="topk",
        k=settings.integer("k"),
        hook=_hook(layout.weights),
    )
    weights.finish("a TopK SAE of sparsify")
    return sae


def _hook(path: str) -> str:
    name = PurePath(path).parent.name
    match = re.fullmatch(r"(?:\w+\.)*(?:layers|h)[._](\d+)(?:\.(?:self_)?(mlp|attn))?", name)
    return f"blocks.{match[1]}.{_POINTS[match[2] or '']}" if match else ""

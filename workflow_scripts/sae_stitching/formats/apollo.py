"""Apollo's SAEs: ``samples_<n>.pt`` with ``final_config.yaml`` beside it, of e2e_sae.

Braun et al., 2024, "Identifying Functionally Important Features with End-to-End Sparse Dictionary
Learning"; ApolloResearch/e2e_sae, ``models/sparsifiers.py``: f = ReLU(x W_enc + b_enc), and
directions of the decoder are brought to unit norm whenever it is used. Tensors are called by the
place in TransformerLens' model, with hyphens for dots.
"""

import re

import torch

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, linear, read_state_dict, vector_length
from sae_stitching.formats.recognise import APOLLO
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read the one SAE of a file of e2e_sae."""
    del name
    assert layout.settings is not None
    settings, path = Settings.read(layout.settings), layout.weights
    tensors = read_state_dict(path)
    places = {match["place"] for key in tensors if (match := APOLLO.fullmatch(key))}
    if len(places) != 1:
        held = ", ".join(sorted(places)) or "none"
        raise StudyError(f"{path}: has SAEs of {len(places)} places ({held}), expected one")
    (place,) = places
    tensors = {re.sub(rf"^(saes\.)?{place}\.", "", key): value for key, value in tensors.items()}
    sizes = [vector_length(path, tensors, f"{part}.bias") for part in ("decoder", "encoder.0")]
    weights = Weights(path, tensors, *sizes)
    matrices = linear(weights, "encoder.0.weight")
    norms = torch.linalg.vector_norm(matrices["W_dec"], dim=1, keepdim=True)
    sae = SAE(
        W_enc=matrices["W_enc"],
        W_dec=matrices["W_dec"] / norms.clamp(min=1e-12),
        b_enc=weights.take("encoder.0.bias", "d_sae"),
        b_dec=weights.take("decoder.bias", "d_model"),
        architecture="relu",
        apply_b_dec_to_input=False,
    )
    weights.finish("an SAE of e2e_sae")
    return sae, _told(settings, path, place.replace("-", "."))


def _told(settings: Settings, path: str, hook: str) -> Told:
    told, model = Told(), settings.text("tlens_model_name", "")
    told.tell("hook", hook, f"{path}: the tensors' names")
    told.tell("model", model or None, f"{settings.path}: tlens_model_name")
    if model:
        # As from_pretrained of TransformerLens does.
        told.tell("center_writing_weights", True, "e2e_sae's way to load the model")
    data = settings.part("train_data")
    told.tell_number("context", data.values.get("n_ctx"), f"{settings.path}: train_data.n_ctx")
    return told

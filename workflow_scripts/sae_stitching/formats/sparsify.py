"""sparsify: TopK SAEs as ``cfg.json`` and ``sae.safetensors``.

b_dec is always subtracted from the input; `normalize_decoder` is of training only.
"""

import re
from pathlib import PurePosixPath

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, read_safetensors
from sae_stitching.formats.places import looks_like_a_place
from sae_stitching.formats.told import Said, Told
from sae_stitching.saes.sae import SAE

# What other settings than these compute no SAE of ours can express.
_EXPECTED = {"activation": "topk", "transcode": False, "skip_connection": False, "signed": False}
_SETTINGS = {*_EXPECTED, "d_in", "num_latents", "expansion_factor", "k"}
# Of training alone.
_TRAINING = {"normalize_decoder", "multi_topk"}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of sparsify, whose folder is named for the module whose output it reads."""
    assert layout.settings is not None
    settings = Settings.read(layout.settings)
    _refuse_what_is_no_sae(settings)
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
    )
    weights.finish("a TopK SAE of sparsify")
    return sae, _told(settings, layout, name)


def _refuse_what_is_no_sae(settings: Settings) -> None:
    for key, expected in _EXPECTED.items():
        if (value := settings.values.get(key, expected)) != expected:
            raise StudyError(
                f"{settings.path}: {key} is {value!r}; only {expected!r} can be imported"
            )


def _told(settings: Settings, layout: Layout, name: str) -> Told:
    told = Told()
    told.know(settings.values, f"{settings.path}: ", _SETTINGS | _TRAINING)
    folder = PurePosixPath(name).parent
    module = folder
    if re.fullmatch(r"seed\d+", folder.name):
        # Of several seeds, each has a folder within the module's.
        module = module.parent
    if looks_like_a_place(module.name):
        told.tell("hook", module.name, f"{name}: the folder's name")
    # The settings of the run lie beside the modules' folders.
    if layout.run is not None:
        _tell_run(told, Settings.read(layout.run))
    return told


def _tell_run(told: Told, run: Settings) -> None:
    if "sae" not in run.values or "hookpoints" not in run.values:
        return  # of something else
    # Older versions have these beside `sae`.
    _refuse_what_is_no_sae(run)
    told.tell("model", run.text("model", "") or None, f"{run.path}: model")
    told.tell("revision", run.text("revision", "") or None, f"{run.path}: revision")
    told.tell_number("context", run.values.get("ctx_len"), f"{run.path}: ctx_len")
    if run.flag("load_in_8bit", False):
        told.strange.append(Said(True, f"{run.path}: load_in_8bit"))

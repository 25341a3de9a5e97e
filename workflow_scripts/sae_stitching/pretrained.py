"""SAEs of any format: read, and checked for the study."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sae_stitching import formats
from sae_stitching.errors import StudyError
from sae_stitching.formats import Layout, dictionary_learning, gemma_scope, saelens, sparsify
from sae_stitching.sae import SAE, read_sae

_logger = logging.getLogger(__name__)

_READERS: dict[str, Callable[[Layout], SAE]] = {
    "saelens": saelens.read,
    "gemma-scope": gemma_scope.read,
    "dictionary-learning": dictionary_learning.read,
    "sparsify": sparsify.read,
}


def load_sae(path: str | Path, *, format: str = "auto", study: str | None = None) -> SAE:
    """Read an SAE, in this package's format or in that of another library.

    No code is run: pickled files are read as tensors and plain values only.

    Parameters
    ----------
    path
        HDF5 file that `save_sae` wrote (``.h5``), or folder or file of weights of SAELens, Gemma
        Scope, dictionary_learning or sparsify.
    format
        Of other libraries' files, a key of `formats.FILES`, or ``"auto"`` for the one whose files
        are there.
    study
        Study that an HDF5 file must belong to.

    Raises
    ------
    StudyError
        If a file or a tensor is missing, damaged, not finite or of another shape, or if the SAE
        does what `SAE` cannot express.

    Examples
    --------
    >>> import tempfile, torch
    >>> from sae_stitching import SAE, export_saelens, load_sae, save_sae
    >>> W_dec = torch.eye(3)
    >>> sae = SAE(W_dec.T, W_dec, torch.zeros(3), torch.zeros(3), "relu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_sae(sae, f"{folder}/3.h5")
    ...     _ = export_saelens(sae, f"{folder}/3")
    ...     [load_sae(path).d_sae for path in (f"{folder}/3.h5", f"{folder}/3")]
    [3, 3]
    """
    if Path(path).suffix == ".h5" and format == "auto":
        return read_sae(path, study=study)
    layout = formats.find_local(str(path), format)
    sae = _READERS[layout.format](layout)
    if sae.k is not None and sae.k > sae.d_sae:
        raise StudyError(
            f"{layout.settings}: k is {sae.k}, more than the {sae.d_sae} latents of the SAE"
        )
    return sae


def fitted(sae: SAE, name: str, *, d_sae: int, d_model: int | None, hook: str, model: str) -> SAE:
    """The SAE as one of the study's, once it is known to fit.

    Parameters
    ----------
    sae
    name
        Where it comes from, for complaints.
    d_sae, d_model, hook
        What the study expects; a `d_model` that is not known yet is not checked.
    model
        What the study calls its model.

    Raises
    ------
    StudyError
        If the SAE has another size, or was trained at another place in the model.
    """
    if sae.d_sae != d_sae:
        raise StudyError(
            f"{name}: has {sae.d_sae} latents, not the {d_sae} of d_sae; correct d_sae"
        )
    if d_model is not None and sae.d_model != d_model:
        raise StudyError(
            f"{name}: reads d_model {sae.d_model}, but {model} has {d_model}; is it for this model?"
        )
    if not sae.hook:
        _logger.info("%s does not say its hook; taken for %s", name, hook)
    elif _place(sae.hook) != _place(hook):
        raise StudyError(
            f"{name}: was trained on {sae.hook}, the study is of {hook}; correct model.hook, or "
            "name another SAE"
        )
    if sae.model and sae.model != model:
        _logger.info("%s was trained on %s, the study calls its model %s", name, sae.model, model)
    return replace(sae, hook=hook, model=model)


def _place(hook: str) -> str:
    """One name for one place: what leaves a block is what enters the next."""
    block, _, point = hook.removeprefix("blocks.").partition(".")
    if point == "hook_resid_post" and block.isdigit():
        return f"blocks.{int(block) + 1}.hook_resid_pre"
    return hook

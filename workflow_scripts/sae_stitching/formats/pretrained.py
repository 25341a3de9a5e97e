"""SAEs of any format: read, and checked for the study."""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from sae_stitching import formats
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import (
    Layout,
    agreement,
    apollo,
    connor_rob,
    deepseek_r1,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llama_scope,
    openai,
    places,
    qwen_scope,
    saelens,
    sparsify,
)
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE, read_sae

_logger = logging.getLogger(__name__)

_READERS: dict[str, Callable[[Layout, str], tuple[SAE, Told]]] = {
    "saelens": saelens.read,
    "gemma-scope": gemma_scope.read,
    "dictionary-learning": dictionary_learning.read,
    "sparsify": sparsify.read,
    "gemma-scope-2": gemma_scope_2.read,
    "qwen-scope": qwen_scope.read,
    "llama-scope": llama_scope.read,
    "llama-scope-r1-distill": llama_scope.read_r1_distill,
    "connor-rob": connor_rob.read,
    "goodfire": goodfire.read,
    "deepseek-r1": deepseek_r1.read,
    "openai": openai.read,
    "apollo": apollo.read,
}


def load_sae(path: str | Path, *, format: str = "auto", study: str | None = None) -> SAE:
    """Read an SAE, in this package's format or in that of another library.

    No code is run: pickled files are read as tensors and plain values only.

    Parameters
    ----------
    path
        HDF5 file that `save_sae` wrote (``.h5``), or folder or file of weights of another library,
        of any format that `formats.FILES` has.
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
    return read_files(formats.find_local(str(path), format))[0]


def read_files(layout: Layout, name: str | None = None, *, model: str = "") -> tuple[SAE, Told]:
    """Read an SAE of another library, and what its files tell of it.

    Parameters
    ----------
    layout
        The files.
    name
        Path of the weights as they were published, which some libraries tell places by: owner and
        name of the repository, and the path in it. By default, where they lie.
    model
        Of which a registry says that it is the SAE's, where the files do not tell.

    Returns
    -------
    sae
        With its hook by TransformerLens' name, where it is understood.
    told

    Raises
    ------
    StudyError
        As `load_sae`.
    """
    try:
        sae, told = _READERS[layout.format](layout, name or layout.weights)
    except StudyError:
        if instead := formats.not_ours(layout):
            raise StudyError(instead) from None
        raise
    if sae.k is not None and sae.k > sae.d_sae:
        raise StudyError(
            f"{layout.settings or name}: k is {sae.k}, more than the {sae.d_sae} latents of the SAE"
        )
    if model and "model" not in told.said:
        told.tell("model", model, f"{name or layout.weights}: the model in SAELens' registry")
    hook, of = (
        str(told.said[topic].value) if topic in told.said else "" for topic in ("hook", "model")
    )
    return replace(sae, hook=places.hook(hook) or hook, model=of), told


def fitted(
    sae: SAE,
    told: Told,
    name: str,
    *,
    d_sae: int,
    d_model: int | None,
    study: Activations,
    trust: Collection[str] = (),
) -> SAE:
    """The SAE as one of the study's, once it is known to fit.

    Parameters
    ----------
    sae
    told
        What its files tell of it.
    name
        Where it comes from, for complaints.
    d_sae, d_model
        What the study expects; a `d_model` that is not known yet is not checked.
    study
        Activations that it will read.
    trust
        Where the study is right against the files, see `agreement.check`.

    Raises
    ------
    StudyError
        If the SAE has another size, or was trained on other activations.
    """
    if sae.d_sae != d_sae:
        raise StudyError(
            f"{name}: has {sae.d_sae} latents, not the {d_sae} of d_sae; correct d_sae"
        )
    if d_model is not None and sae.d_model != d_model:
        raise StudyError(
            f"{name}: reads d_model {sae.d_model}, but {study.model} has {d_model} at "
            f"{study.hook}; is it for this model and place?"
        )
    agreement.check(told, study, name, trust)
    return replace(sae, hook=study.hook, model=study.model)

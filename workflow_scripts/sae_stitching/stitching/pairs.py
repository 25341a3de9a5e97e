"""Two SAEs of a study with their stored codes and the cached eval activations."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.encoding import open_codes
from sae_stitching.saes.sae import load_decoder
from sae_stitching.stitching.effects import EvalPair


@contextmanager
def open_pair(files: Any, *, study: str | None = None) -> Iterator[EvalPair]:
    """Open a pair from its files.

    Parameters
    ----------
    files
        Has the attributes `small`, `large` (SAE files), `codes_small`, `codes_large`, and
        `activations` (the eval shards, in order).
    study
        Study that they must belong to; any by default.

    Raises
    ------
    StudyError
        If a file is missing, damaged or of another study, or the codes are not those of the SAEs
        or of the activations.
    """
    with ExitStack() as stack:
        small, large = (
            load_decoder(path, study=study, double=True) for path in (files.small, files.large)
        )
        yield EvalPair.stored(
            small,
            large,
            ActivationShards(files.activations, study=study),
            stack.enter_context(open_codes(files.codes_small, small, study=study)),
            stack.enter_context(open_codes(files.codes_large, large, study=study)),
        )

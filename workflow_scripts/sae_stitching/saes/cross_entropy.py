"""Cross-entropy of the language model with an SAE's reconstruction in place of its activations.

The share recovered compares it with destroying the activations (Table 2):

    CE recovered = (CE_ablated − CE_spliced) / (CE_ablated − CE_clean),

where ablated means zeros, or the mean activation over all eval tokens.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.base.record import open_record
from sae_stitching.saes.sae import SAE
from sae_stitching.text.token_file import Tokens

if TYPE_CHECKING:
    import torch

    from sae_stitching.activations.language_model import LanguageModel

# Logits of one batch: 32 Mi values are 128 MiB in float32.
_LOGITS = 1 << 25


def eval_sequences(path: str | Path, n_tokens: int, *, study: str) -> "torch.Tensor":
    """Whole sequences of the eval split, at equal distances, of at least ``n_tokens`` tokens.

    Returns
    -------
    Tensor
        (sequence, context) int64; all sequences where there are too few.
    """
    import torch

    with open_record(Tokens, path, study=study) as corpus:
        tokens = corpus.eval.tokens[...]
    n = min(len(tokens), -(-n_tokens // tokens.shape[1]))
    chosen = np.linspace(0, len(tokens) - 1, n).round().astype(int)
    return torch.from_numpy(tokens[chosen].astype(np.int64))


def cross_entropies(
    model: "LanguageModel",
    tokens: "torch.Tensor",
    saes: Mapping[str, SAE],
    mean: "torch.Tensor",
    *,
    skip_first_position: bool,
) -> list[dict[str, Any]]:
    """Splice every SAE into the model and compare with zero and mean ablation.

    Parameters
    ----------
    model
    tokens
        (sequence, context) int64.
    saes
        SAEs that read the model's hook.
    mean
        Mean activation, (d_model).
    skip_first_position
        Leave the activation at position 0 as it is, and what is predicted from it out of the
        mean, since no SAE was trained on it.

    Returns
    -------
    list of dict
        For each SAE ``sae``, ``ce``, ``ce_clean``, ``ce_zero``, ``ce_mean`` (nats a token),
        ``ce_recovered_zero``, ``ce_recovered_mean`` and ``ce_tokens``, the tokens predicted.

    Raises
    ------
    StudyError
        If an SAE reads another hook than the model gives.
    """
    import torch

    for name, sae in saes.items():
        if sae.hook and sae.hook != model.hook:
            raise StudyError(f"{name}: the SAE was trained on {sae.hook}, not on {model.hook}")
    first = int(skip_first_position)

    def splice(replace: Callable[["torch.Tensor"], "torch.Tensor"]) -> Callable[..., Any]:
        def hook(activations: "torch.Tensor") -> "torch.Tensor":
            kept, read = activations[:, :first], activations[:, first:]
            rows = replace(read.reshape(-1, read.shape[-1]).float())
            return torch.cat([kept, rows.view(read.shape).to(activations.dtype)], 1)

        return hook

    places: dict[str, Callable[..., Any] | None] = {
        " clean": None,
        " zero": splice(torch.zeros_like),
        " mean": splice(lambda x: mean.to(x).expand_as(x)),
        **{name: splice(_reconstruct(sae)) for name, sae in saes.items()},
    }
    sums = dict.fromkeys(places, 0.0)
    n_predicted = 0
    size = max(1, _LOGITS // (tokens.shape[1] * model.d_vocab))
    progress = Progress(tokens.numel() * len(places), "cross-entropy")
    for batch in tokens.split(size):
        targets = batch[:, first + 1 :]
        n_predicted += targets.numel()
        for name, place in places.items():
            logits = model.logits(batch, place)[:, first:-1].float()
            sums[name] += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="sum"
            ).item()
            progress.update(batch.numel())
    if n_predicted == 0:
        raise StudyError("tokens.context: too short to predict a token; give a longer one")
    ce = {name: total / n_predicted for name, total in sums.items()}
    rows = []
    for name in saes:
        row: dict[str, Any] = {"sae": name, "ce": ce[name]}
        for ablation in ("zero", "mean"):
            gap = ce[f" {ablation}"] - ce[" clean"]
            recovered = (ce[f" {ablation}"] - ce[name]) / gap if gap else float("nan")
            row[f"ce_recovered_{ablation}"] = recovered
        row |= {f"ce_{key}": ce[f" {key}"] for key in ("clean", "zero", "mean")}
        rows.append(row | {"ce_tokens": n_predicted})
    return rows


def _reconstruct(sae: SAE) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    return lambda x: sae.decode(sae.encode(x), x)

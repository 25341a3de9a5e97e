"""What a study finds as its SAEs grow older: every number of the pairs against the steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sae_stitching.stitching.transitions import INSERT, START, Transition

CONVERGENCE_COLUMNS = (
    "architecture",
    "seed",
    "steps",
    "tokens",
    "small",
    "large",
    "d_small",
    "d_large",
    "settled_small",
    "settled_large",
    "share_max_cosine_small",
    "share_max_cosine_large",
    "share_matched_small",
    "share_matched_large",
    "pw_mcc_small",
    "pw_mcc_large",
    "share_novel",
    "share_improving",
    "auc",
    "theta_best",
    "theta_lowest_mse",
    "overshoot",
    "l0_small",
    "l0_large",
    "fvu_small",
    "fvu_large",
)


def overshoot(walk: Transition) -> float:
    """How far the MSE rises again while novel latents go in, over that at the start.

    The MSE after all insertions less the lowest on the way there (Figure 5): 0 where it falls to
    the end, as in the paper's.
    """
    inserting = walk.mse[np.isin(walk.kind, (START, INSERT))]
    return float((inserting[-1] - inserting.min()) / walk.mse[0])


def convergence(
    trained: Sequence[Mapping[str, Any]],
    pairs: pd.DataFrame,
    saes: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    agreement: pd.DataFrame | None,
    walks: Mapping[tuple[str, str], Transition],
) -> pd.DataFrame:
    """Lay out the pairs of SAEs of the same steps, one row a pair, with what both seeds share.

    Parameters
    ----------
    trained
        One entry a pair: ``architecture``, ``seed``, ``steps``, ``tokens``, ``small``, ``large``.
    pairs, saes
        The tables of pairs and of SAE properties.
    curves
        Training curve of each SAE.
    agreement
        Table of agreement, where the study has two seeds: a row counts for both of its SAEs, and of
        several comparisons of an SAE their mean.
    walks
        Transition of each pair.

    Returns
    -------
    pandas.DataFrame
        Columns `CONVERGENCE_COLUMNS`; those of `agreement` are missing without it.
    """
    of_pair = {(row["small"], row["large"]): row for row in pairs.to_dict("records")}
    of_sae = {row["sae"]: row for row in saes.to_dict("records")}
    shared = ["share_max_cosine", "share_matched", "pw_mcc"]
    of_seeds: dict[Any, Any] = {}
    if agreement is not None:
        both = pd.concat([agreement, agreement.assign(sae=agreement["other"])])
        of_seeds = pd.DataFrame(both.groupby("sae")[shared].mean()).T.to_dict()
    rows = []
    for entry in trained:
        pair = entry["small"], entry["large"]
        row = {**entry, **of_pair[pair], "overshoot": overshoot(walks[pair])}
        for side, name in zip(("small", "large"), pair, strict=True):
            row |= {f"{key}_{side}": of_sae[name][key] for key in ("l0", "fvu")}
            row[f"d_{side}"] = of_sae[name]["d_sae"]
            row[f"settled_{side}"] = curves[name]["settled"].iloc[-1]
            of_both = of_seeds.get(name, dict.fromkeys(shared, np.nan))
            row |= {f"{column}_{side}": of_both[column] for column in shared}
        rows.append({name: row[name] for name in CONVERGENCE_COLUMNS})
    return pd.DataFrame(rows, columns=pd.Index(CONVERGENCE_COLUMNS))

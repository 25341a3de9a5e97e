"""The study's tables: one row an SAE or a pair of SAEs, written as CSV."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import replacing
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.roc import NoveltyROC
from sae_stitching.stitching.swaps import Swaps
from sae_stitching.stitching.threshold import ThresholdCurve

SAE_COLUMNS = (
    "sae",
    "d_sae",
    "architecture",
    "stitched_from",
    "l0",
    "published_l0",
    "mse",
    "fvu",
    "published_variance_explained",
    "ce_recovered_zero",
    "ce_recovered_mean",
    "ce",
    "ce_clean",
    "ce_zero",
    "ce_mean",
    "ce_tokens",
    "n_live",
    "n_dead",
    "n_tokens",
)

FAMILY_COLUMNS = (
    "architecture",
    "seed",
    "small",
    "large",
    "d_small",
    "d_large",
    "l0_small",
    "l0_large",
    "fvu_small",
    "fvu_large",
    "theta",
    "n_novel",
    "share_novel",
    "share_improving",
    "auc",
    "auc_low",
    "auc_high",
    "theta_best",
    "theta_lowest_mse",
    "median_max_cosine",
)

PAIR_COLUMNS = (
    "small",
    "large",
    "theta",
    "n_novel",
    "n_reconstruction",
    "share_novel",
    "n_components",
    "n_unmatched_small",
    "auc",
    "auc_low",
    "auc_high",
    "theta_best",
    "theta_lowest_mse",
    "mse_small",
    "mse_large",
    "n_never_active",
    "share_improving",
    "median_max_cosine",
    "median_swap_delta_mse",
    "median_swap_delta_l0",
)


#: Columns of all tables that hold the name of an SAE.
NAME_COLUMNS = (
    "sae",
    "other",
    "small",
    "large",
    "stitched_from",
    "next_in_size",
    "next_in_l0",
    "bias_of",
)


def sae_properties(
    rows: Sequence[Mapping[str, Any]], *more: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Lay out the properties of the SAEs (the paper's Table 2), one row an SAE.

    Rows of `more` are joined to those of the same ``sae``. Columns in the order of `SAE_COLUMNS`,
    then any others in the order they first appear. A column that no row has is left out; a value
    that one row lacks is missing (empty in CSV).
    """
    joined = [dict(row) for row in rows]
    for others in more:
        by_sae = {row["sae"]: dict(row) for row in others}
        for row in joined:
            row.update(by_sae.get(row.get("sae"), {}))
    return _ordered(joined, SAE_COLUMNS, keys=("sae",))


def pairs(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Lay out what was found for each pair of SAEs, one row a pair.

    Columns in the order of `PAIR_COLUMNS`, then any others; see `sae_properties`.
    """
    return _ordered(rows, PAIR_COLUMNS, keys=("small", "large"))


def pair_row(
    small: str,
    large: str,
    *,
    insertions: Insertions,
    subgraphs: Subgraphs,
    swaps: Swaps,
    curve: ThresholdCurve,
    roc: NoveltyROC,
) -> dict[str, Any]:
    """Row of the pair table.

    ``theta`` is the one configured, ``theta_best`` that of greatest TPR − FPR, and
    ``theta_lowest_mse`` that whose novel set, inserted whole, leaves the lowest MSE.
    ``share_improving`` is the share of active latents whose insertion lowers the MSE.
    """
    novel, active = subgraphs.novel, insertions.n_active > 0
    return {
        "small": small,
        "large": large,
        "theta": subgraphs.theta,
        "n_novel": int(novel.sum()),
        "n_reconstruction": int((~novel).sum()),
        "share_novel": float(novel.mean()),
        "n_components": subgraphs.n_components,
        "n_unmatched_small": int(subgraphs.unmatched.sum()),
        "auc": roc.auc,
        "auc_low": roc.auc_low,
        "auc_high": roc.auc_high,
        "theta_best": roc.theta_best,
        "theta_lowest_mse": curve.best,
        "mse_small": insertions.mse_small,
        "mse_large": insertions.mse_large,
        "n_never_active": roc.n_never_active,
        "share_improving": float((insertions.delta_mse[active] < 0).mean())
        if active.any()
        else float("nan"),
        "median_max_cosine": float(np.median(insertions.max_cosine)),
        "median_swap_delta_mse": _median(swaps.delta_mse),
        "median_swap_delta_l0": _median(swaps.delta_l0),
    }


def families(
    pairs: pd.DataFrame, saes: pd.DataFrame, members: Mapping[tuple[str, int], Sequence[str]]
) -> pd.DataFrame:
    """Lay out the pairs inside each series of SAEs, one row a pair, one series after the other.

    Parameters
    ----------
    pairs
        The pair table.
    saes
        The table of SAE properties.
    members
        Names of the SAEs of each series, by architecture and seed.

    Returns
    -------
    pandas.DataFrame
        Columns `FAMILY_COLUMNS`.
    """
    of_sae = saes.astype({"sae": str}).set_index("sae")
    rows = []
    for (architecture, seed), names in members.items():
        for pair in pairs.astype({"small": str, "large": str}).to_dict("records"):
            if pair["small"] in names and pair["large"] in names:
                row = {"architecture": architecture, "seed": seed, **pair}
                for side in ("small", "large"):
                    for name in ("d_sae", "l0", "fvu"):
                        row[f"{name.removesuffix('_sae')}_{side}"] = of_sae.loc[pair[side], name]
                rows.append({name: row[name] for name in FAMILY_COLUMNS})
    return pd.DataFrame(rows, columns=pd.Index(FAMILY_COLUMNS))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    r"""Write a table whole or not at all, the same bytes for the same table.

    Floats have the fewest digits that read back to the same float64; lines end in ``"\n"``;
    missing values are empty; the index is not written.
    """
    narrow = {name: "float64" for name in frame.columns if frame[name].dtype == "float32"}
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        frame.astype(narrow).to_csv(file, index=False, lineterminator="\n")


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a table that `write_csv` wrote; names of SAEs stay text, also 016, 1e1 and NaN.

    The only way in which the workflow reads a table. Without types a column of the names 016 and
    032 would be one of the numbers 16 and 32.
    """
    return pd.read_csv(
        path, dtype=dict.fromkeys(NAME_COLUMNS, str), keep_default_na=False, na_values=[""]
    )


def _ordered(
    rows: Sequence[Mapping[str, Any]], first: Sequence[str], keys: Sequence[str]
) -> pd.DataFrame:
    for position, row in enumerate(rows):
        lacking = [key for key in keys if key not in row]
        if lacking:
            raise StudyError(f"table row {position}: no {lacking[0]!r}; it names the row")
    # A table of no rows still has its header.
    present = dict.fromkeys(name for row in rows for name in row) if rows else dict.fromkeys(first)
    columns = [name for name in first if name in present]
    columns += [name for name in present if name not in first]
    frame = pd.DataFrame([dict(row) for row in rows], columns=pd.Index(columns))
    for name in columns:
        found = [row[name] for row in rows if row.get(name) is not None]
        # A count that one row lacks would otherwise turn into floats: 657.0.
        if 0 < len(found) < len(rows) and all(isinstance(value, Integral) for value in found):
            frame[name] = frame[name].astype("Int64")
    return frame

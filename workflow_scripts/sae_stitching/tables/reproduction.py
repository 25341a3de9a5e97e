"""The paper's published numbers beside a study's own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sae_stitching.matching.latent_families import component_sizes
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.tables.published import PROPERTIES, Pair, Published

#: Columns of tables/reproduction.csv.
COLUMNS = (
    "source",
    "quantity",
    "sae",
    "small",
    "large",
    "subgraph",
    "published",
    "study",
    "study_low",
    "study_high",
    "difference",
)


def reproduction(
    numbers: Published,
    saes: pd.DataFrame,
    pairs: pd.DataFrame,
    subgraphs: Mapping[Pair, Subgraphs],
) -> pd.DataFrame:
    """Set each published number beside the study's.

    Parameters
    ----------
    numbers
        What the paper published.
    saes, pairs
        The study's tables ``sae_properties.csv`` and ``pairs.csv``, names as text.
    subgraphs
        Connected subgraphs of the study's pairs; needed of those in `numbers.subgraphs`.

    Returns
    -------
    pandas.DataFrame
        The columns of `COLUMNS`, a row a number: ``source`` (table or figure of the paper),
        ``quantity``, what it is of (``sae``; or ``small`` and ``large``; and ``subgraph``, the
        numbers of its latents on both sides, or "single"), ``published``, ``study``, the interval
        of the study's AUC, and ``difference``, study − published. What the study lacks is missing.
    """
    rows = [*_properties(numbers, saes), *_of_pairs(numbers, pairs), *_counts(numbers, subgraphs)]
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    for name in ("published", "study", "study_low", "study_high"):
        table[name] = table[name].astype("float64")
    table["difference"] = table["study"] - table["published"]
    return table


def _properties(numbers: Published, saes: pd.DataFrame) -> Iterator[dict[str, Any]]:
    own = saes.set_index("sae")
    for position, quantity in enumerate(PROPERTIES):
        for sae, values in numbers.properties.items():
            row = {"source": "Table 2", "quantity": quantity, "sae": sae}
            yield {**row, "published": values[position], "study": _cell(own, sae, quantity)}


def _of_pairs(numbers: Published, pairs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    own = pairs.set_index(["small", "large"])
    for (small, large), value in numbers.auc.items():
        row = {"source": "Figure 13", "quantity": "auc", "small": small, "large": large}
        yield {
            **row,
            "published": value,
            "study": _cell(own, (small, large), "auc"),
            "study_low": _cell(own, (small, large), "auc_low"),
            "study_high": _cell(own, (small, large), "auc_high"),
        }
    for (small, large), value in numbers.share_reconstruction.items():
        row = {"source": "Figure 16b", "quantity": "share_reconstruction"}
        counts = [_cell(own, (small, large), f"n_{kind}") for kind in ("reconstruction", "novel")]
        share = counts[0] / sum(counts)
        yield {**row, "small": small, "large": large, "published": value, "study": share}


def _counts(numbers: Published, subgraphs: Mapping[Pair, Subgraphs]) -> Iterator[dict[str, Any]]:
    for pair, counts in numbers.subgraphs.items():
        own = subgraph_sizes(subgraphs[pair]) if pair in subgraphs else None
        row = {"source": "Figure 12", "quantity": "subgraphs", "small": pair[0], "large": pair[1]}
        for size, count in counts.items():
            name = "-".join(map(str, size)) if any(size) else "single"
            study = float("nan") if own is None else own[size]
            yield {**row, "subgraph": name, "published": count, "study": study}
        if own is not None:
            # All that the figure does not show, it says, there is none of.
            rest = sum(own[size] for size in own.keys() - counts.keys())
            yield {**row, "subgraph": "other", "published": 0, "study": rest}


def subgraph_sizes(subgraphs: Subgraphs) -> Counter[tuple[int, int]]:
    """Count the connected subgraphs by their numbers of latents, (small, large).

    Latents of either side that stand alone are counted together, as (0, 0) (Figure 12).
    """
    sides = component_sizes(subgraphs)
    counts = Counter(zip(*(side.tolist() for side in sides), strict=True))
    counts[0, 0] = int(subgraphs.unmatched.sum() + subgraphs.novel.sum())
    return counts


def _cell(table: pd.DataFrame, row: Any, column: str) -> float:
    present = column in table.columns and row in table.index
    return float(table.at[row, column]) if present else float("nan")

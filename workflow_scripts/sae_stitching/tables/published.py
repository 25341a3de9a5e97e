"""What Leask, Bussmann et al. (ICLR 2025, arXiv 2502.04878) published of their own SAEs.

SAEs go by their dictionary size, as in the paper; pairs by (smaller, larger).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sae_stitching.base.errors import StudyError

Pair = tuple[str, str]

#: Table 2's columns, called as those of tables/sae_properties.csv: mean active latents, MSE, and
#: cross-entropy recovered against zero and mean ablation.
PROPERTIES = ("l0", "mse", "ce_recovered_zero", "ce_recovered_mean")


@dataclass(frozen=True)
class Published:
    """Published numbers of one family of SAEs.

    Attributes
    ----------
    properties : dict
        Values of `PROPERTIES` by SAE (Table 2).
    auc : dict
        Area under the ROC curve of the max cosine by pair (Figure 13).
    share_reconstruction : dict
        Share of reconstruction latents of the larger SAE by pair (Figure 16b).
    subgraphs : dict
        By pair, how many connected subgraphs have (small, large) latents. (0, 1) and (1, 0) are
        latents that stand alone; the paper counts them together, as (0, 0) (Figure 12).
    """

    properties: Mapping[str, tuple[float, ...]]
    auc: Mapping[Pair, float]
    share_reconstruction: Mapping[Pair, float] = field(default_factory=dict)
    subgraphs: Mapping[Pair, Mapping[tuple[int, int], int]] = field(default_factory=dict)

    @property
    def saes(self) -> list[str]:
        """The SAEs, by size."""
        return list(self.properties)


def published(paper: str | None) -> Published:
    """Numbers of one of the paper's studies.

    Raises
    ------
    StudyError
        If there is none of that name.
    """
    if paper not in PUBLISHED:
        raise StudyError(
            f"paper: {paper!r} names no study of the paper; choose {' or '.join(PUBLISHED)}"
        )
    return PUBLISHED[paper]


def _triangle(saes: list[str], rows: list[list[float]]) -> dict[Pair, float]:
    # Row i is of the larger SAE i + 1, its columns of the smaller ones.
    return {
        (small, large): value
        for large, row in zip(saes[1:], rows, strict=True)
        for small, value in zip(saes, row, strict=False)
    }


#: Published numbers by the value of the config key `paper`.
PUBLISHED: dict[str, Published] = {
    "gpt2-small": Published(
        properties={
            "768": (35.2, 2.72, 0.915, 0.876),
            "1536": (39.5, 2.22, 0.942, 0.915),
            "3072": (42.4, 1.89, 0.955, 0.937),
            "6144": (43.8, 1.63, 0.965, 0.949),
            "12288": (43.9, 1.46, 0.971, 0.958),
            "24576": (42.9, 1.33, 0.975, 0.963),
            "49152": (42.4, 1.21, 0.978, 0.967),
            "98304": (43.9, 1.14, 0.980, 0.970),
        },
        auc={
            ("768", "1536"): 0.93,
            ("1536", "3072"): 0.90,
            ("3072", "6144"): 0.88,
            ("6144", "12288"): 0.86,
            ("12288", "24576"): 0.84,
            ("24576", "49152"): 0.82,
            ("49152", "98304"): 0.84,
        },
        share_reconstruction=_triangle(
            ["768", "1536", "3072", "6144", "12288", "24576", "49152"],
            [
                [0.572],
                [0.351, 0.592],
                [0.227, 0.390, 0.630],
                [0.160, 0.272, 0.437, 0.664],
                [0.111, 0.188, 0.310, 0.469, 0.678],
                [0.072, 0.126, 0.215, 0.338, 0.492, 0.679],
            ],
        ),
        subgraphs={
            ("768", "1536"): {
                (0, 0): 676,
                (1, 1): 605,
                (1, 2): 102,
                (2, 1): 1,
                (1, 3): 7,
                (2, 2): 1,
                (2, 3): 3,
                (2, 4): 2,
                (3, 3): 1,
                (2, 5): 1,
                (3, 5): 1,
                (4, 5): 1,
                (5, 5): 1,
                (4, 6): 1,
            }
        },
    ),
    "gemma-2-2b": Published(
        properties={
            "16384": (43.4, 1.72, 0.983, 0.980),
            "32768": (41.5, 1.59, 0.985, 0.982),
        },
        auc={("16384", "32768"): 0.80},
    ),
}

"""Sound SAEs that leave nothing to compare: figures and tables are made, and say so."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.sound_study import D_MODEL
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.figure13 import figure13, figure13_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.decoder_similarity import (
    similarity,
    unit_rows,
)
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.sae import SAE
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.swaps import swap_effects, swap_operations
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transitions import transition, transition_operations
from sae_stitching.tables.summary import pair_row, pairs, write_csv


def dictionary(directions: torch.Tensor, *, dead: bool = False) -> SAE:
    """Latents that read what they write."""
    W_dec = unit_rows(directions)
    return SAE(
        W_enc=W_dec.T.contiguous(),
        W_dec=W_dec,
        b_enc=torch.full((len(W_dec),), -1e3 if dead else 0.0),
        b_dec=torch.zeros(W_dec.shape[1]),
        architecture="relu",
    )


def tilted(n: int, share: float) -> torch.Tensor:
    """Directions near each other."""
    noise = torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(n))
    return torch.ones(D_MODEL) + share * noise


E = torch.eye(D_MODEL)

# The smaller SAE, the larger, and what the row of the table says; what Figure 4 notes and what the
# legend of Figure 13 shows.
DEGENERATE: dict[str, tuple[SAE, SAE, dict[str, Any], str, str]] = {
    "all latents dead": (
        dictionary(E[:4], dead=True),
        dictionary(E, dead=True),
        {"n_never_active": 8, "auc": None, "share_improving": None, "n_components": 4},
        "not shown: 8 never active on the evaluation tokens",
        "undefined (one class)",
    ),
    "all latents of the larger SAE dead": (
        dictionary(E[:4]),
        dictionary(E, dead=True),
        {"n_never_active": 8, "auc": None, "share_improving": None},
        "not shown: 8 never active on the evaluation tokens",
        "undefined (one class)",
    ),
    "no novel latent": (
        dictionary(E),
        dictionary(torch.cat([E, E])),
        {"n_novel": 0, "n_reconstruction": 16, "n_components": 8, "n_unmatched_small": 0},
        "0 novel (left of θ), 16 reconstruction",
        "undefined (one class)",
    ),
    "every latent novel, no edge": (
        dictionary(E[:4]),
        dictionary(E[4:]),
        {"n_novel": 4, "n_components": 0, "n_unmatched_small": 4, "median_swap_delta_mse": None},
        "4 novel (left of θ), 0 reconstruction",
        "undefined (one class)",
    ),
    "one giant subgraph": (
        dictionary(tilted(6, 0.05)),
        dictionary(tilted(9, 0.05)),
        {"n_novel": 0, "n_components": 1, "n_unmatched_small": 0},
        "0 novel (left of θ), 9 reconstruction",
        "undefined (one class)",
    ),
    "every insertion lowers the MSE": (
        dictionary(E[:4], dead=True),
        dictionary(E),
        {"share_improving": 1.0, "auc": None, "auc_low": None, "theta_best": None},
        "4 novel (left of θ), 4 reconstruction",
        "undefined (one class)",
    ),
    "no insertion lowers the MSE": (
        dictionary(E),
        dictionary(E[:5]),
        {"share_improving": 0.0, "auc": None, "n_novel": 0, "n_unmatched_small": 3},
        "0 novel (left of θ), 5 reconstruction",
        "undefined (one class)",
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_pair_has_its_figures_and_tables(name, tmp_path, caplog):
    small, large, expected, note, legend = DEGENERATE[name]
    theta, sizes = 0.5, {"bootstrap_samples": 10, "confidence": 0.95, "seed": 0}
    x = torch.rand(40, D_MODEL, generator=torch.Generator().manual_seed(1)) + 0.1
    pair = EvalPair.in_memory(small, large, x, torch.arange(40) // 8)
    found = similarity(small.W_dec, large.W_dec, floor=0.3)
    subgraphs = connected_subgraphs(found, theta)
    insertions = insertion_effects(pair, found)
    swaps = swap_effects(pair, subgraphs)
    operations = swap_operations(subgraphs)
    assert operations.n == len(swaps.delta_mse) == subgraphs.n_components
    roc = novelty_roc(insertions, **sizes)
    assert not roc.defined and "ROC and AUC are undefined" in caplog.text

    row = pair_row(
        "4",
        "8",
        insertions=insertions,
        subgraphs=subgraphs,
        swaps=swaps,
        curve=threshold_curve(pair, found),
        roc=roc,
    )
    write_csv(pairs([row]), tmp_path / "pairs.csv")
    (table,) = pd.read_csv(tmp_path / "pairs.csv").to_dict("records")
    for key, value in expected.items():
        assert np.isnan(table[key]) if value is None else table[key] == value, key

    shown = figure4_table(insertions, theta)
    assert len(shown) + (insertions.n_active == 0).sum() == large.d_sae
    figure = figure4(insertions, theta, small="4", large="8")
    assert note in figure.get_supxlabel()
    save_figure(figure, shown, tmp_path / "figure4")
    names = ("4", "8")
    figure = figure13({names: roc}, {names: theta})
    assert legend in figure.legends[0].get_texts()[0].get_text()
    save_figure(figure, figure13_table({names: roc}, {names: theta}), tmp_path / "figure13")

    if small.d_sae < large.d_sae:
        step = transition(pair, subgraphs)
        assert len(step.kind) == 1 + transition_operations(subgraphs)[0].n
        np.testing.assert_allclose(step.mse[-1], insertions.mse_large, atol=1e-12)
        shown = figure5_table({names: step})
        save_figure(figure5(shown), shown, tmp_path / "figure5")
    for written in tmp_path.glob("figure*"):
        assert written.stat().st_size > 0

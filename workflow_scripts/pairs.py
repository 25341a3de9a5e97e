"""Tabulate what was found for each pair."""

import logging
import math

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.insertions import load_insertions
from sae_stitching.stitching.roc import load_roc
from sae_stitching.stitching.swaps import load_swaps
from sae_stitching.stitching.threshold import load_threshold_curve
from sae_stitching.tables.summary import pair_row, pairs, write_csv


def said(value):
    return "undefined (one class)" if math.isnan(value) else f"{value:.3f}"


with job(snakemake) as origin:
    study, files = origin["study"], snakemake.input
    rows = [
        pair_row(
            *split_pair_name(name),
            insertions=load_insertions(insertions, study=study),
            subgraphs=load_subgraphs(subgraphs, study=study),
            swaps=load_swaps(swaps, study=study),
            curve=load_threshold_curve(curve, study=study),
            roc=load_roc(roc, study=study),
        )
        for name, insertions, subgraphs, swaps, curve, roc in zip(
            snakemake.params.job["pairs"],
            files.insertions,
            files.subgraphs,
            files.swaps,
            files.curves,
            files.rocs,
            strict=True,
        )
    ]
    table = pairs(rows)
    for row in rows:
        logging.getLogger("sae_stitching").info(
            "%s--%s: AUC %s; θ %.3f, of greatest TPR − FPR %s, of lowest MSE %.3f",
            *(row[key] for key in ("small", "large")),
            said(row["auc"]),
            row["theta"],
            said(row["theta_best"]),
            row["theta_lowest_mse"],
        )
    write_csv(table, snakemake.output[0])

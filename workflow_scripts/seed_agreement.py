"""Measure how far SAEs that differ in their seed alone agree; tabulate and draw it."""

import pandas as pd
from job import job
from sae_stitching.figures.seed_agreement import agreement_curves, agreement_figure, agreement_row
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.seed_agreement import agreement, random_agreement
from sae_stitching.saes.sae import load_decoder
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params = snakemake.params.job
    files = dict(zip(params["saes"], snakemake.input, strict=True))
    found, rows, random = {}, [], {}
    for comparison in params["comparisons"]:
        two = comparison["sae"], comparison["other"]
        W_dec, other = (load_decoder(files[name], study=origin["study"]).W_dec for name in two)
        shape = tuple(W_dec.shape)
        random[shape] = random.get(shape) or random_agreement(*shape)
        found[two] = agreement(W_dec, other)
        rows.append({**comparison, **agreement_row(found[two], random[shape])})
    table = pd.DataFrame(rows)
    write_csv(table, snakemake.output.table)
    curves = agreement_curves(found, random[max(random)])
    save_figure(agreement_figure(table, curves), curves, snakemake.output[:3], dpi=params["dpi"])

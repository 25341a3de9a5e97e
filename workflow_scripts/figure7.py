"""Draw Figure 7: histograms of the max cosine."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.base.record import open_record
from sae_stitching.figures.figure7 import figure7, figure7_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.saes.sae_file import StoredSAE

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    names = [split_pair_name(pair) for pair in params["pairs"]]
    found = [load_similarity(path, study=study) for path in files.similarities]
    thetas = [load_subgraphs(path, study=study).threshold for path in files.subgraphs]
    with open_record(StoredSAE, files.sae, study=study) as sae:
        d_model = sae.W_dec.shape[1]
    table = figure7_table(
        {name: s.max_cosine_large for name, s in zip(names, found, strict=True)},
        dict(zip(names, thetas, strict=True)),
        {name: len(s.max_cosine_small) for name, s in zip(names, found, strict=True)},
        d_model,
    )
    save_figure(figure7(table), table, snakemake.output, dpi=params["dpi"])

"""Draw Figure 12: the types of connected subgraphs, and tabulate them."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure12 import figure12, figure12_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.latent_families import component_types
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    names = [split_pair_name(pair) for pair in params["pairs"]]
    graphs = {
        name: load_subgraphs(path, study=study)
        for name, path in zip(names, files.subgraphs, strict=True)
    }
    similarities = {
        name: load_similarity(path, study=study)
        for name, path in zip(names, files.similarities, strict=True)
    }
    types = component_types(graphs)
    edges, shown = figure12_table(types, graphs, similarities)
    thetas = {name: graph.theta for name, graph in graphs.items()}
    write_csv(types, snakemake.output.table)
    save_figure(figure12(types, shown, thetas), edges, snakemake.output[:3], dpi=params["dpi"])

"""Draw Figure 3: the stitching operation on a connected subgraph of the study."""

from job import job
from sae_stitching.figures.figure3 import example_component, figure3, figure3_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.latent_families import family
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.swaps import load_swaps

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    graph = load_subgraphs(files.subgraphs, study=study)
    swaps = load_swaps(files.swaps, study=study)
    component = example_component(graph)
    shown = None
    if component is not None:
        shown = family(component, graph, load_similarity(files.similarity, study=study))
    figure = figure3(
        shown,
        swaps,
        tuple(params["pair"]),
        (len(graph.component_small), len(graph.component_large)),
        graph.theta,
    )
    save_figure(figure, figure3_table(shown, swaps), snakemake.output, dpi=params["dpi"])

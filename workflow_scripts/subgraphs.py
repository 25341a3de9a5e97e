"""Find the connected subgraphs of two SAEs at θ."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.subgraphs import connected_subgraphs, write_graph
from sae_stitching.stitching.threshold import load_threshold_curve

with job(snakemake) as origin:
    threshold = snakemake.params.job["threshold"]
    similarity = load_similarity(snakemake.input.similarity, study=origin["study"])
    if threshold == "auto":
        curve = load_threshold_curve(snakemake.input.curve, study=origin["study"])
        threshold = curve.best_from(similarity.floor)
    subgraphs = connected_subgraphs(similarity, threshold)
    write_graph(similarity, subgraphs, snakemake.output.graph)
    write_record(subgraphs, snakemake.output.subgraphs, **origin)

"""Put the latents of the larger SAE in several orders, and insert them in each."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.saes.sae import read_sae
from sae_stitching.stitching.effects import EvalPair
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.selection_orders import Selection, insertion_orders, walk

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    similarity = load_similarity(files.similarity, study=study)
    subgraphs = load_subgraphs(files.subgraphs, study=study)
    small, large = (read_sae(path, study=study) for path in (files.small, files.large))
    tokens = ActivationShards(files.train, study=study).first(params["selection_tokens"])
    measured = EvalPair.in_memory(small, large, *tokens)
    orders, n_greedy = insertion_orders(measured, similarity)
    n_train_tokens = measured.n_tokens
    del small, large, tokens, measured
    with open_pair(files, study=study) as pair:
        walks = {
            name: walk(pair, order, f"{name} order of {snakemake.wildcards.pair}")
            for name, order in orders.items()
        }
    novel = int(subgraphs.novel.sum())
    found = Selection(walks, subgraphs.threshold, novel, n_greedy, n_train_tokens)
    write_record(found, snakemake.output[0], **origin)

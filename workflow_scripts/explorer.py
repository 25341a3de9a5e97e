"""Make the page on which latents and their families are looked up."""

from job import job
from sae_stitching.explorer.data import PairResults, explorer_parts, token_texts, write_explorer
from sae_stitching.explorer.passages import load_passages
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.insertions import load_insertions
from sae_stitching.stitching.swaps import load_swaps
from sae_stitching.text.tokens import load_tokenizer

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    tokenizer = load_tokenizer(str(files.get("model") or params["model"]))
    loaders = {
        "similarity": load_similarity,
        "subgraphs": load_subgraphs,
        "insertions": load_insertions,
        "swaps": load_swaps,
    }
    parts = explorer_parts(
        {"study": study, "model": params["model"], "hook": params["hook"]},
        {
            name: load_passages(path, study=study)
            for name, path in zip(params["saes"], files.passages, strict=True)
        },
        [
            PairResults(
                *name.split("--"),
                **{kind: load(files[kind][i], study=study) for kind, load in loaders.items()},
            )
            for i, name in enumerate(params["pairs"])
        ],
        files.tokens,
        lambda tokens: token_texts(tokenizer, tokens),
        nearest=params["nearest"],
        neuronpedia=params["neuronpedia"],
    )
    write_explorer(parts, snakemake.output[0], inline_mb=params["inline_mb"])

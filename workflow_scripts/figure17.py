"""Draw Figure 17: MSE of each SAE with the decoder bias of every other."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.figures.figure17 import figure17, figure17_table
from sae_stitching.figures.style import save_figure
from sae_stitching.saes.encoding import open_codes
from sae_stitching.saes.evaluation import read_rows
from sae_stitching.saes.normalization import shared
from sae_stitching.saes.sae import load_decoder
from sae_stitching.stitching.bias_exchange import bias_exchange, mean_codes, mean_residual, means

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    biases, residuals = {}, {}
    normalize = shared({path: load_decoder(path, study=study).normalize for path in files.saes})
    of = means(ActivationShards(files.activations, study=study), normalize)
    for name, path, codes in zip(params["saes"], files.saes, files.codes, strict=True):
        sae = load_decoder(path, study=study)
        with open_codes(codes, sae, study=study) as stored:
            residuals[name] = mean_residual(sae, of, mean_codes(stored, of))
        biases[name] = sae.b_dec
    mses = {row["sae"]: row["mse"] for row in read_rows(files.rows)}
    table = figure17_table(bias_exchange(biases, residuals, mses, of.weight))
    save_figure(figure17(table), table, snakemake.output, dpi=params["dpi"])

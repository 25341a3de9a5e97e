# Resources. They follow the size of the work as far as the config tells it. What only the data can
# tell is assumed: the d_model of Gemma 2 2B while the model is not fetched, ten million tokens
# where no number of sequences is set, and cores that multiply matrices at 20 GFLOP/s.

d_model = (
    model_source
    or model_facts(model_folder() or study["model"]["name"], study["model"]["hook"])
).get("d_model", 2304)


def scaled(amount):
    """A resource: `amount`, or what it gives for the wildcards, once more at every attempt."""

    def resource(wildcards, attempt):
        return math.ceil(attempt * (amount(wildcards) if callable(amount) else amount))

    return resource


def matrix_mb(*names):
    """Megabytes of a float32 matrix (d_sae, d_model) of each of these SAEs."""
    return sum(4e-6 * sizes[name] * d_model for name in names)


def agreement_mb(comparison):
    """Megabytes of matching two SAEs of one size: their cosines, and twice more in float64."""
    d_sae = min(comparison["d_sae"], MATCHED_UP_TO)
    return 2 * matrix_mb(comparison["sae"]) + 24e-6 * d_sae**2


def n_tokens(split):
    """Tokens of a split."""
    sequences = study["tokens"][f"max_{split}_sequences"]
    if sequences is not None:
        return sequences * study["tokens"]["context"]
    return 10e6 * (study["tokens"]["eval_fraction"] if split == "eval" else 1)


def product_minutes(rows, *names):
    """Minutes of the product of `rows` vectors of d_model with a matrix of each of these SAEs."""
    return sum(2 * rows * sizes[name] * d_model for name in names) / 20e9 / 60


def stitching_mb(wildcards):
    """Memory of a pass over a pair's codes: both decoders in float64, and a block of tokens."""
    return 1500 + 2 * matrix_mb(*names(wildcards))


def orders_mb(wildcards):
    """Megabytes of a job that walks through many orders: also a block of latent by latent."""
    entries = min(sum(sizes[name] for name in names(wildcards)) ** 2, 2**28)
    return stitching_mb(wildcards) + 25e-6 * entries


def stitching_minutes(wildcards):
    """Minutes of a pass over a pair's codes, at a thousand tokens a second."""
    return 30 + n_tokens("eval") / 60e3


def selection_mb(*names):
    """Memory of choosing among latents: tokens, codes, and decoders in float64 several times."""
    tokens = study["stitching"]["selection_tokens"]
    return 2000 + 1e-6 * tokens * (8 * d_model + 4000) + 10 * matrix_mb(*names)


def selection_minutes(*names):
    """Minutes of choosing among latents, each SAE encoded a few times."""
    tokens = study["stitching"]["selection_tokens"]
    return 30 + tokens / 10e3 + 10 * product_minutes(tokens, *names)


def training_mb(wildcards):
    """Memory of training: the matrices with gradients and moments, and a batch before sparsity."""
    sae = saes[wildcards.sae]
    batch = 4e-6 * sae["batch_size"] * sae["d_sae"]
    buffer = 4e-6 * sae["shuffle_buffer"] * d_model
    return 2000 + 12 * matrix_mb(wildcards.sae) + 4 * batch + 2 * buffer


def training_minutes(wildcards):
    """Minutes of training on two cores; no more than two days, since more is for a GPU."""
    sae = saes[wildcards.sae]
    # The encoder's product is dense; the rest of a step takes no longer than that.
    steps = 2 * product_minutes(sae["steps"] * sae["batch_size"], wildcards.sae)
    return min(60 + steps, 2880)

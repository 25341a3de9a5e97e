# Text to tokens.


rule tokenise:
    """Tokenise {params.job[text][source]}"""
    input:
        text=text_inputs(),
        model=model_folder() or [],
        commits=commits("model", "text"),
    output:
        "<results>/corpus/tokens.h5",
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30 + (n_tokens("train") + n_tokens("eval")) / 600e3),
    params:
        job=job(
            "tokenise",
            text=text_settings,
            source=text_source,
            model=study["model"]["name"],
            tokens=study["tokens"],
        ),
    script:
        "../workflow_scripts/tokenise.py"

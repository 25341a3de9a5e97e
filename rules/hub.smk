# What a study takes from the Hugging Face hub: which commits, and the files of those.
#
# These jobs alone need a network, and the one that fetches from the package index (sources.smk).
# They run where Snakemake was started, since the nodes of a cluster often have none.


# A repository has a file of its own, so that a branch that moved makes stale what comes of it and
# nothing else. While the hub is asked anew, and if that fails, what was known stays.
rule resolve_commit:
    """Ask for the commit of {wildcards.repository}"""
    output:
        update("<results>/hub/commits/{repository}.json"),
    wildcard_constraints:
        repository=one_of(repositories),
    localrule: True
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(30),
    params:
        job=lambda wildcards: repositories[wildcards.repository],
    script:
        "../workflow_scripts/resolve_commit.py"


rule resolve:
    input:
        commits(*hub),
    localrule: True


# Neither the code's hash nor the study is among the params of the jobs that fetch: what comes is
# fixed by the commit, and must not be fetched again because the code was improved that does it.
# Their outputs are folders of links into the hub's cache, where a large model lies once for all
# studies and programs, under its checksum.
rule fetch_model:
    """Fetch {params.job[model]}"""
    input:
        commits=commits("model"),
    output:
        directory("<results>/hub/model"),
    localrule: True
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(240),
    params:
        job={"model": study["model"]["name"]},
    script:
        "../workflow_scripts/fetch_model.py"


rule fetch_sae:
    """Fetch SAE {wildcards.sae}"""
    input:
        commits=lambda wildcards: commits(f"saes/{wildcards.sae}"),
    output:
        directory("<results>/hub/saes/{sae}"),
    wildcard_constraints:
        sae=one_of(pretrained),
    localrule: True
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(120),
    params:
        job=lambda wildcards: {
            key: pretrained[wildcards.sae]["pretrained"][key]
            for key in ("path", "format")
        },
    script:
        "../workflow_scripts/fetch_sae.py"


# How much text the study reads is known by its tokens.
rule fetch_text:
    """Fetch the text of {params.job[text][dataset][path]}"""
    input:
        commits=commits("text"),
        model=model_folder() if text_is_limited else [],
    output:
        "<results>/corpus/text.h5",
    localrule: True
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60 + (n_tokens("train") + n_tokens("eval")) / 600e3),
    params:
        job={
            "study": study["study"],
            "text": text_settings,
            "tokens": study["tokens"] if text_is_limited else {},
        },
    script:
        "../workflow_scripts/fetch_text.py"


rule fetch:
    input:
        commits(*hub),
        "<results>/hub/model" if "model" in hub else [],
        collect("<results>/hub/{part}", part=[p for p in hub if "/" in p]),
        "<results>/corpus/text.h5" if "text" in hub else [],
        [fetched(name) for name in fetched_sources],
    localrule: True

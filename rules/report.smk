# Pages of the report: what the study is, and its tables in a form that sorts. The figures go into
# the report as they are; `figure` in common.smk marks them.


rule summary:
    input:
        properties=rules.sae_properties.output[0],
        made=[
            f"{results}/corpus/tokens.h5",
            *collect(f"{results}/saes/{{sae}}.h5", sae=all_saes),
            *collect(f"{results}/stitching/insertions/{{pair}}.h5", pair=pairs),
        ],
        commits=commits(*hub),
    output:
        in_report(f"{results}/report/summary.html", "summary", Page="Summary"),
    log:
        f"{results}/logs/summary.log",
    benchmark:
        f"{results}/benchmarks/summary.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        job=job(
            "summary",
            saes=[
                {
                    "sae": name,
                    "made": "imported" if name in pretrained else "trained here",
                    **{
                        key: sae.get(key)
                        for key in (
                            "d_sae",
                            "architecture",
                            "k",
                            "sparsity_coefficient",
                            "lr",
                            "batch_size",
                            "steps",
                            "seed",
                        )
                    },
                }
                for name, sae in saes.items()
            ]
            # How many latents these have is in the table of properties.
            + [
                {
                    "sae": name,
                    "made": f"stitched from {', '.join(stitched_sources(recipe))}",
                }
                for name, recipe in stitched.items()
            ],
            settings={
                "model": model_settings,
                "text": text_settings,
                **{key: study[key] for key in ("tokens", "activations", "stitching")},
                **({"stitched": study["stitched"]} if stitched else {}),
            },
        ),
    message:
        "Summarise the study"
    script:
        "../workflow_scripts/summary.py"


rule table_page:
    input:
        f"{results}/tables/{{table}}.csv",
    output:
        report(
            f"{results}/report/{{table}}.html",
            caption="../report/table_page.rst",
            category=lambda wildcards: SECTIONS[wildcards.table],
            labels={"Table": "{table}"},
        ),
    log:
        f"{results}/logs/table_page/{{table}}.log",
    benchmark:
        f"{results}/benchmarks/table_page/{{table}}.tsv"
    wildcard_constraints:
        table=one_of(TABLES),
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        job=lambda wildcards: job("table_page", title=TABLES[wildcards.table]),
    message:
        "Lay out the table {wildcards.table}"
    script:
        "../workflow_scripts/table_page.py"

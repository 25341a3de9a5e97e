# Pages of the report: what the study is, and its tables in a form that sorts. The figures go into
# the report as they are; `figure` in common.smk marks them.


rule summary:
    """Summarise the study"""
    input:
        properties=rules.sae_properties.output[0],
        made=[
            "<results>/corpus/tokens.h5",
            *collect("<results>/saes/{sae}.h5", sae=all_saes),
            *collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
        ],
        commits=commits(*hub),
    output:
        in_report("<results>/report/summary.html", "summary", "summary", Page="Summary"),
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
    script:
        "../workflow_scripts/summary.py"


rule table_pages:
    """Lay out the tables"""
    input:
        collect("<results>/tables/{table}.csv", table=tables),
    output:
        [
            in_report(
                f"<results>/report/{table}.html", table, f"tables/{table}", Table=table
            )
            for table in tables
        ],
    params:
        job=job("table_pages", titles=list(tables.values())),
    script:
        "../workflow_scripts/table_pages.py"

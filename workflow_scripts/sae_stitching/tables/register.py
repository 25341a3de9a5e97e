"""All figures and tables of a study: what each shows, where it stands, and which studies have it.

The workflow's targets, the sections of its report, the list in docs/results.md and the tests follow
from `RESULTS`. How a result is made is said by a rule of its name (rules/).
"""

from collections.abc import Iterator
from dataclasses import dataclass

CONDITIONS = {
    "steps": "with a transition",
    "trained": "that train SAEs",
    "stitched": "that stitch SAEs",
    "jumprelu_pairs": "with pairs of JumpReLU SAEs",
    "jumprelu_steps": "with a transition of JumpReLU SAEs",
    "comparisons": "that train several seeds of one SAE",
    "convergence_pairs": "that train the SAEs of a pair for different numbers of steps",
    "several_series": "with SAEs of several architectures or seeds",
    "ce_tokens": "that measure the cross-entropy",
    "paper": "of the paper's own SAEs",
}
"""What a study may have, and the words for such studies."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A figure, a table or a page of a study.

    Attributes
    ----------
    name
        Of its files: ``figures/<name>.pdf``, ``.png`` and ``.csv``, ``tables/<name>.csv``,
        ``report/<name>.html``. Its caption is ``report/figures/<name>.rst``,
        ``report/tables/<name>.rst`` or ``report/<name>.rst``.
    section
        Of the report.
    shows
        What it shows, in a phrase.
    figure
        Whether there is a figure.
    table
        Title of the table; empty where there is none.
    each
        What it has a figure of each of, in ``figures/<name>_<each>.*``: ``"pairs"`` or another of
        the workflow's lists; empty where there is one.
    when
        Which studies have it, a key of `CONDITIONS`; all by default.
    rule
        Rule that makes it, where that has another name.
    """

    name: str
    section: str
    shows: str
    figure: bool = False
    table: str = ""
    each: str = ""
    when: str = ""
    rule: str = ""

    @property
    def made_by(self) -> str:
        """Name of the rule that makes it."""
        return self.rule or self.name


STUDY = "1 The study"
STITCHING = "2 Stitching (Section 4)"
SIMILARITY = "3 Similarity of latents (Appendix A.3)"
LATENT_FAMILIES = "4 Latent families (Appendix A.4)"
PROPERTIES = "5 Properties of the SAEs (Appendix A.5)"
CLASSIFYING = "6 Classifying, swapping, inserting (Appendix A.6)"
JUMPRELU = "7 JumpReLU SAEs (Appendix A.6)"
BEYOND = "8 Beyond the paper"

RESULTS = (
    Result(
        name="summary",
        section=STUDY,
        shows="What the study is: its SAEs, settings, commits of the hub and versions",
    ),
    Result(
        name="training_curve",
        section=STUDY,
        figure=True,
        shows="Loss, FVU, L0, dead latents and the share of settled directions (where they were at "
        "half as many steps, with a cosine of 0.9) over training",
        when="trained",
    ),
    Result(
        name="figure3",
        section=STITCHING,
        figure=True,
        shows="The stitching operation, on a connected subgraph of the study's first pair",
    ),
    Result(
        name="figure4",
        section=STITCHING,
        figure=True,
        shows="Effect of every insertion against the max cosine",
        each="pairs",
    ),
    Result(
        name="figure5",
        section=STITCHING,
        figure=True,
        shows="MSE and L0 along the transition",
        when="steps",
    ),
    Result(
        name="pairs",
        section=STITCHING,
        table="Pairs of SAEs",
        shows="One row a pair: θ, numbers of novel and reconstruction latents, AUC and its "
        "interval, best thresholds, medians of the swaps",
    ),
    Result(
        name="figure7",
        section=SIMILARITY,
        figure=True,
        shows="Histogram of the max cosine, with what random directions of the same number and "
        "size would give",
    ),
    Result(
        name="figure8",
        section=SIMILARITY,
        figure=True,
        shows="Cosine of two latents' decoder directions against that of their activations, and R²",
    ),
    Result(
        name="figure12",
        section=LATENT_FAMILIES,
        figure=True,
        shows="Latent families: the types of connected subgraphs, and how many there are of each",
    ),
    Result(
        name="components",
        section=LATENT_FAMILIES,
        table="Types of latent families",
        shows="One row a type of connected subgraph: its latents on either side, how many there "
        "are",
        rule="figure12",
    ),
    Result(
        name="sae_properties",
        section=PROPERTIES,
        table="Properties of the SAEs",
        shows="One row an SAE: size, architecture, L0, MSE, FVU, cross-entropy recovered, live and "
        "dead latents",
    ),
    Result(
        name="reproduction",
        section=PROPERTIES,
        figure=True,
        table="The paper and this study",
        shows="The paper's published numbers beside the study's",
        when="paper",
    ),
    Result(
        name="cross_entropy",
        section=PROPERTIES,
        table="Cross-entropy of the language model",
        shows="One row an SAE: the language model's cross-entropy as it is, with the SAE, and "
        "ablated",
        when="ce_tokens",
    ),
    Result(
        name="figure13",
        section=CLASSIFYING,
        figure=True,
        shows="ROC curves of the max cosine",
    ),
    Result(
        name="figure14",
        section=CLASSIFYING,
        figure=True,
        shows="Effect of every single swap on MSE and L0",
    ),
    Result(
        name="figure15",
        section=CLASSIFYING,
        figure=True,
        shows="MSE while latents are inserted in random order, below θ and above it",
    ),
    Result(
        name="figure16",
        section=CLASSIFYING,
        figure=True,
        shows="Share of reconstruction latents for every pair; SAEs that differ in the seed alone "
        "have a panel of their own",
    ),
    Result(
        name="figure17",
        section=CLASSIFYING,
        figure=True,
        shows="MSE of every SAE with the decoder bias of every other",
    ),
    Result(
        name="figure18",
        section=JUMPRELU,
        figure=True,
        shows="Figure 4 for pairs of JumpReLU SAEs, the effects on a logarithmic axis",
        each="jumprelu_pairs",
        when="jumprelu_pairs",
    ),
    Result(
        name="figure19",
        section=JUMPRELU,
        figure=True,
        shows="Figure 5 for a transition of JumpReLU SAEs: the MSE alone, beside that of each SAE",
        when="jumprelu_steps",
    ),
    Result(
        name="orders",
        section=BEYOND,
        figure=True,
        table="Orders of insertion",
        shows="How far the transition depends on the order of its operations: the given one, "
        "random ones with their spread, largest measured gain first",
        when="steps",
    ),
    Result(
        name="significance",
        section=BEYOND,
        figure=True,
        table="Insertion effects that differ from zero",
        shows="Which insertion effects differ from zero beyond their standard error, and the AUC "
        "on those alone",
    ),
    Result(
        name="seed_agreement",
        section=BEYOND,
        figure=True,
        table="Agreement of seeds",
        shows="What two seeds share: max cosine, one to one, PW-MCC, and the same of random "
        "directions",
        when="comparisons",
    ),
    Result(
        name="convergence",
        section=BEYOND,
        figure=True,
        table="Numbers against the steps of training",
        shows="What becomes of every number of the pairs as the SAEs grow older",
        when="convergence_pairs",
    ),
    Result(
        name="families",
        section=BEYOND,
        figure=True,
        table="SAEs of one architecture and seed",
        shows="Pairs of every architecture and seed side by side: novel latents, insertions that "
        "help, AUC, thresholds, max cosine",
        when="several_series",
    ),
    Result(
        name="family_transitions",
        section=BEYOND,
        figure=True,
        shows="MSE along the transition of every architecture and seed",
        when="several_series",
    ),
    Result(
        name="selection",
        section=BEYOND,
        figure=True,
        table="Ways to select latents",
        shows="MSE against number of latents inserted and against L0, by the order of insertion",
        # Without training there are no training activations to select on, unless asked for.
        when="trained",
    ),
    Result(
        name="stitched",
        section=BEYOND,
        figure=True,
        table="Stitched SAEs",
        shows="MSE of stitched SAEs and of the others against size and L0",
        when="stitched",
    ),
)
"""In the order of the report, which is the paper's."""


def as_markdown() -> str:
    """List all results as a table of docs/results.md, by the section of the report."""
    return "\n".join(_rows())


def _rows() -> Iterator[str]:
    section = ""
    for result in RESULTS:
        if result.section != section:
            section = result.section
            yield f"\n### {section.partition(' ')[2]}\n"
            yield "| Files | Show | In studies |\n|---|---|---|"
        of_each = f"_<{result.each.rpartition('_')[2].removesuffix('s')}>" if result.each else ""
        files = [f"`figures/{result.name}{of_each}.*`"] if result.figure else []
        files += [f"`tables/{result.name}.csv`"] if result.table else []
        files = files or [f"`report/{result.name}.html`"]
        who = CONDITIONS[result.when] if result.when else "all"
        yield f"| {', '.join(files)} | {result.shows} | {who} |"

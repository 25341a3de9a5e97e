"""Published SAEs as text to read, or as YAML to paste into a config."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import yaml

from sae_stitching.formats.registry import Published

Place = Sequence[Published]


def as_text(places: Iterable[Place]) -> Iterator[str]:
    """Yield lines: each place, and below it the SAEs that each release has there.

    Parameters
    ----------
    places
        As `Registry.search` finds them.
    """
    n_places = n_saes = 0
    for place in places:
        n_places, n_saes = n_places + 1, n_saes + len(place)
        widths = {sae.d_sae for sae in place}
        yield f"{place[0].model}  {place[0].hook or 'place unknown'}  {_counted(widths, 'width')}"
        for release, saes in groupby(sorted(place, key=_by_release), key=lambda sae: sae.release):
            of_release = list(saes)
            yield f"  {release}"
            for d_sae, some in groupby(of_release, key=lambda sae: sae.d_sae):
                yield f"    {_of_one_width(d_sae, list(some))}"
            if refusal := next((sae.refusal for sae in of_release if sae.refusal), ""):
                yield f"    cannot be read: {refusal}"
    yield f"{_counted(range(n_places), 'place')}, {n_saes} SAEs"


def as_yaml(places: Sequence[Place], l0: float | None = None) -> Iterator[str]:
    """Yield lines of YAML: for each place the entries of ``saes``, one SAE of each width.

    Parameters
    ----------
    places
        As `Registry.search` finds them.
    l0
        Of several SAEs of a width, the one of an L0 nearest to this is taken; without it, or where
        none is published, the first. The others are there as comments.
    """
    for place in places:
        yield f"# {place[0].model}, {place[0].hook or 'place unknown'}"
        yield "saes:"
        readable = [sae for sae in place if not sae.refusal]
        for _, some in groupby(readable, key=lambda sae: sae.d_sae):
            saes = list(some)
            told = [(abs(sae.l0 - l0), i) for i, sae in enumerate(saes) if l0 and sae.l0]
            chosen = saes[min(told)[1] if told else 0]
            for sae in saes:
                yield entry(sae) if sae is chosen else f"  # {entry(sae).lstrip()}"


def entry(sae: Published, name: str = "") -> str:
    """One SAE as an entry of ``saes``, perhaps under a name of its own."""
    said = {"name": name} if name else {}
    said |= {"release": sae.release, "sae_id": sae.sae_id}
    written = yaml.safe_dump(said, default_flow_style=True, sort_keys=False, width=math.inf)
    told = "" if sae.l0 is None else f" # L0 {sae.l0:g}"
    return f"  - {written.strip()}{told}"


def _by_release(sae: Published) -> tuple[str, int, float]:
    return sae.release, sae.d_sae or 0, sae.l0 or 0.0


def _of_one_width(d_sae: int | None, saes: list[Published]) -> str:
    width = "width unknown" if d_sae is None else f"{d_sae:>9,}"
    told = [sae.l0 for sae in saes if sae.l0 is not None]
    l0 = f"  L0 {', '.join(f'{value:g}' for value in told)}" if told else ""
    example = saes[0].sae_id if len(saes) == 1 else f"{saes[0].sae_id} and {len(saes) - 1} more"
    return f"{width}  {example}{l0}"


def _counted(things: Iterable[object], name: str) -> str:
    n = len(list(things))
    return f"{n} {name}{'' if n == 1 else 's'}"

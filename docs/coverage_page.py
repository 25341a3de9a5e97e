"""Write coverage.md: which SAEs of SAELens's registry can be read, and why others cannot.

Run it from the checkout's root when the pinned registry or a reader changes; it fetches the
registry if the cache has none.
"""

from collections import Counter
from pathlib import Path

from sae_stitching.formats.registry import FORMATS, PIN, Published, read_registry

_HEAD = """\
# Coverage

Made by `docs/coverage_page.py` from the registry of sae-lens {version}: how many of its entries can
be read, by SAELens's loader. A loader counts as read where `make test-peers` holds the reader here
against it, on files of the real names, layouts and types; no weights from the hub were at hand.

{n_saes:,} SAEs, of which {n_read:,} ({share:.2%}) can be read, and {n_others:,} entries that are
transcoders. {n_places:,} places in models have SAEs of two widths or more, {n_read_places:,} of
them such as can be read.

| SAELens's loader | Format here | Entries | Read | Why others are not |
|---|---|---|---|---|
"""


def coverage(saes: list[Published], version: str) -> str:
    """The page, as Markdown."""
    loaders: dict[str, list[Published]] = {}
    for sae in saes:
        loaders.setdefault(sae.loader, []).append(sae)
    rows = []
    for loader, entries in sorted(loaders.items(), key=lambda item: -len(item[1])):
        read = [sae for sae in entries if not sae.refusal]
        reasons = Counter(sae.refusal for sae in entries if sae.refusal)
        why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items()) or "–"
        format = f"`{FORMATS[loader]}`" if loader in FORMATS else "–"
        rows.append(f"| `{loader}` | {format} | {len(entries):,} | {len(read):,} | {why} |")
    of_saes = [sae for sae in saes if "transcoder" not in sae.refusal]
    read = [sae for sae in saes if not sae.refusal]
    head = _HEAD.format(
        version=version,
        n_saes=len(of_saes),
        n_read=len(read),
        share=len(read) / len(of_saes),
        n_others=len(saes) - len(of_saes),
        n_places=_places(of_saes),
        n_read_places=_places(read),
    )
    return head + "\n".join(rows) + "\n"


def _places(saes: list[Published]) -> int:
    widths: dict[tuple[str, str], set[int | None]] = {}
    for sae in saes:
        widths.setdefault((sae.model.lower(), sae.hook), set()).add(sae.d_sae)
    return sum(len(found) > 1 for found in widths.values())


if __name__ == "__main__":
    registry = read_registry(PIN, "cache")
    page = Path(__file__).with_name("coverage.md")
    page.write_text(coverage(registry.saes, registry.version), encoding="utf-8")

"""The explorer: a page on which the latents of a study and their families can be looked up.

The page is one HTML file with its styles, scripts and charting library inside. Its data come in
parts. Where all of them together are small they are inside the page too, so that it is one file
to hand on; otherwise they lie beside it in ``data/`` as scripts, each of which hands one part to
the page. Either way nothing is fetched, and a page opened from the disk may load scripts where it
may not load JSON.

Parts, with SAEs and pairs by their number in the study's lists:

``study``
    What the page must know at once: names, sizes, θ.
``vocabulary``
    Texts of the tokens that occur in a passage.
``latents/<sae>``
    A value a latent: tokens on which it is active, greatest activation, its token there.
``passages/<sae>/<chunk>``
    Passages of `CHUNK` consecutive latents.
``pair/<pair>``
    A value a latent of either SAE, and a value a family (connected subgraph).
``links/<pair>``
    Edges of the families, and the nearest latents of each latent in the other SAE.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sae_stitching.base.record import open_record
from sae_stitching.base.store import replacing
from sae_stitching.explorer.passages import Passages
from sae_stitching.matching.decoder_similarity import Similarity
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.swaps import Swaps
from sae_stitching.text.token_file import Tokens

ASSETS = Path(__file__).with_name("page")
"""Folder of the page's own files."""

CHART = "chart.umd.min.js"
"""Chart.js as it is distributed, among them."""

CHUNK = 256
"""Latents whose passages are in one part."""

# How the page's modules import and export: names alone, and nothing that changes later.
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


@dataclass(frozen=True)
class PairResults:
    """What is known of a pair of SAEs."""

    small: str
    large: str
    similarity: Similarity
    subgraphs: Subgraphs
    insertions: Insertions
    swaps: Swaps


def token_texts(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """Text of each token alone.

    A token that is only a part of a character reads as U+FFFD. The space that SentencePiece marks
    with ▁ is kept, which decoding a single token would drop.
    """
    pieces = tokenizer.convert_ids_to_tokens(list(tokens))
    texts = []
    for token, piece in zip(tokens, pieces, strict=True):
        if piece is not None and piece.startswith("▁"):
            texts.append(piece.replace("▁", " "))
        else:
            texts.append(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    return texts


def explorer_parts(
    about: Mapping[str, Any],
    saes: Mapping[str, Passages],
    pairs: Sequence[PairResults],
    tokens_path: str | Path,
    texts: Callable[[Sequence[int]], list[str]],
    *,
    nearest: int,
    neuronpedia: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Gather the page's data, part by part, as plain JSON values.

    Parameters
    ----------
    about
        More facts of the study for the page: its name under ``study``, the model, the hook.
    saes
        Passages of each SAE, in the study's order.
    pairs
        Results of each pair, in the study's order.
    tokens_path
        ``corpus/tokens.h5``.
    texts
        Texts of tokens given by number, see `token_texts`.
    nearest
        Latents of another SAE that are listed as nearest.
    neuronpedia
        Names of SAEs on Neuronpedia, ``model/sae``, of those that are there.
    """
    numbers = {name: number for number, name in enumerate(saes)}
    there = neuronpedia or {}
    with open_record(Tokens, tokens_path, study=about["study"]) as corpus:
        tokens, document = corpus.eval.tokens[...], corpus.eval.document[...]
    windows = {name: _token_windows(passages, tokens) for name, passages in saes.items()}
    used = np.unique(np.concatenate([window.ravel() for window in windows.values()]))
    used = used[used >= 0]

    parts: dict[str, Any] = {
        "study": {
            **about,
            "n_tokens": max((passages.n_tokens for passages in saes.values()), default=0),
            "chunk": CHUNK,
            "saes": [
                {
                    "name": name,
                    "d_sae": len(passages.n_active),
                    **({"neuronpedia": there[name]} if name in there else {}),
                }
                for name, passages in saes.items()
            ],
            "pairs": [
                {
                    "small": numbers[pair.small],
                    "large": numbers[pair.large],
                    "theta": pair.subgraphs.theta,
                    "mse_small": _number(pair.insertions.mse_small, 6),
                    "mse_large": _number(pair.insertions.mse_large, 6),
                    "l0_small": _number(pair.swaps.l0_small, 6),
                    "n_families": pair.subgraphs.n_components,
                    "n_novel": int(pair.subgraphs.novel.sum()),
                }
                for pair in pairs
            ],
        },
        "vocabulary": texts(used.tolist()),
    }
    for name, passages in saes.items():
        number = numbers[name]
        # Numbers of the vocabulary; −1 stays where there is no token.
        window = np.where(windows[name] < 0, -1, np.searchsorted(used, windows[name]))
        parts[f"latents/{number}"] = {
            "n_active": passages.n_active.tolist(),
            "max": _numbers(passages.activation[:, 0]),
            "top": window[:, 0, passages.before].tolist(),
        }
        for chunk, first in enumerate(range(0, len(passages.n_active), CHUNK)):
            parts[f"passages/{number}/{chunk}"] = [
                _passages_of(passages, window, document, latent)
                for latent in range(first, min(first + CHUNK, len(passages.n_active)))
            ]
    for number, pair in enumerate(pairs):
        parts[f"pair/{number}"] = _pair_part(pair)
        parts[f"links/{number}"] = _links_part(pair, nearest)
    return parts


def _token_windows(passages: Passages, tokens: np.ndarray) -> np.ndarray:
    """Tokens of every window, (d_sae, passage, window), −1 where the text has none.

    Position 0 (BOS) is no text.
    """
    offsets = np.arange(passages.window.shape[2]) - passages.before
    position = passages.position[:, :, None] + offsets
    here = (passages.position[:, :, None] >= 0) & (position >= 1) & (position < tokens.shape[1])
    sequence = np.where(passages.sequence < 0, 0, passages.sequence)[:, :, None]
    return np.where(here, tokens[sequence, np.where(here, position, 0)], -1)


def _passages_of(
    passages: Passages, window: np.ndarray, document: np.ndarray, latent: int
) -> list[list[Any]]:
    """One list a passage: document, sequence, position, place of the token, tokens, activations.

    Activations are listed as place and value in turn, where they are not zero.
    """
    listed = []
    for passage in range(np.count_nonzero(passages.sequence[latent] >= 0)):
        there = np.flatnonzero(window[latent, passage] >= 0)
        first, last = there[0], there[-1] + 1
        active = np.flatnonzero(passages.window[latent, passage, first:last] > 0)
        strengths = passages.window[latent, passage, first:last][active]
        sequence = int(passages.sequence[latent, passage])
        listed.append(
            [
                int(document[sequence]),
                sequence,
                int(passages.position[latent, passage]),
                passages.before - int(first),
                window[latent, passage, first:last].tolist(),
                [
                    number
                    for place, strength in zip(active.tolist(), _numbers(strengths, 3), strict=True)
                    for number in (place, strength)
                ],
            ]
        )
    return listed


def _pair_part(pair: PairResults) -> dict[str, Any]:
    similarity, subgraphs, insertions, swaps = (
        pair.similarity,
        pair.subgraphs,
        pair.insertions,
        pair.swaps,
    )
    return {
        "large": {
            "max_cosine": _numbers(similarity.max_cosine_large),
            "family": subgraphs.component_large.tolist(),
            # Without an active token there is no measured effect.
            "delta_mse": _numbers(np.where(insertions.n_active > 0, insertions.delta_mse, np.nan)),
            "standard_error": _numbers(insertions.standard_error, 3),
        },
        "small": {
            "max_cosine": _numbers(similarity.max_cosine_small),
            "family": subgraphs.component_small.tolist(),
        },
        "families": {
            "n_small": swaps.n_small.tolist(),
            "n_large": swaps.n_large.tolist(),
            "delta_mse": _numbers(swaps.delta_mse),
            "standard_error": _numbers(swaps.standard_error, 3),
            "delta_l0": _numbers(swaps.delta_l0),
        },
    }


def _links_part(pair: PairResults, nearest: int) -> dict[str, Any]:
    similarity = pair.similarity
    linked = similarity.linked(pair.subgraphs.theta)
    return {
        "edges": {
            "small": similarity.edge_small[linked].tolist(),
            "large": similarity.edge_large[linked].tolist(),
            "cosine": _numbers(similarity.edge_cosine[linked]),
        },
        "large": _nearest(
            similarity.edge_large,
            similarity.edge_small,
            similarity.edge_cosine,
            similarity.argmax_large,
            similarity.max_cosine_large,
            nearest,
        ),
        "small": _nearest(
            similarity.edge_small,
            similarity.edge_large,
            similarity.edge_cosine,
            similarity.argmax_small,
            similarity.max_cosine_small,
            nearest,
        ),
    }


def _nearest(
    latent: np.ndarray,
    other: np.ndarray,
    cosine: np.ndarray,
    argmax: np.ndarray,
    max_cosine: np.ndarray,
    n: int,
) -> list[list[Any]]:
    """For each latent the other SAE's latents of greatest cosine, number and cosine in turn.

    Beside the nearest one only those are known whose cosine reaches the floor of the kept edges.
    """
    order = np.lexsort((other, -cosine, latent))
    bounds = np.searchsorted(latent[order], np.arange(len(argmax) + 1))
    listed = []
    for number, (start, end) in enumerate(pairwise(bounds.tolist())):
        best = order[start : min(end, start + n)]
        names = other[best].tolist() or [int(argmax[number])]
        cosines = _numbers(cosine[best] if len(best) else max_cosine[[number]])
        listed.append([value for pair in zip(names, cosines, strict=True) for value in pair])
    return listed


def _number(value: float, digits: int = 4) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _numbers(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Values to so many significant digits; what is not finite is null."""
    return [_number(value, digits) for value in values.tolist()]


def write_explorer(parts: Mapping[str, Any], folder: str | Path, *, inline_mb: float) -> None:
    """Write the page ``<folder>/index.html``, with ``<folder>/data/`` where the data are large.

    Parameters
    ----------
    parts
        From `explorer_parts`.
    folder
        Where the page goes; data of an earlier page there are removed.
    inline_mb
        Megabytes of data up to which they are inside the page.
    """
    folder = Path(folder)
    shutil.rmtree(folder / "data", ignore_errors=True)
    texts = {name: _json(part) for name, part in parts.items()}
    size = sum(len(text.encode()) for text in texts.values())
    inline = set(texts) if size <= inline_mb * 1e6 else {"study"}
    for name, text in texts.items():
        if name not in inline:
            _write(folder / "data" / f"{name.replace('/', '-')}.js", f'part("{name}",{text})\n')
    data = "\n".join(
        f'<script type="application/json" data-part="{name}">{texts[name]}</script>'
        for name in texts
        if name in inline
    )
    assets = {path.name: path for path in ASSETS.iterdir()}
    fill = {
        "STUDY": escape(str(parts["study"]["study"])),
        "STYLE": assets["page.css"].read_text(encoding="utf-8"),
        "DATA": data,
        # Without the address of a source map that is not there.
        "CHART": assets[CHART].read_text(encoding="utf-8").partition("//# source")[0],
        "SCRIPT": _script(),
    }
    # In one pass: what is filled in may hold anything, the marks too.
    template = assets["page.html"].read_text(encoding="utf-8")
    _write(folder / "index.html", re.sub("@@([A-Z]+)@@", lambda mark: fill[mark[1]], template))


def _script() -> str:
    """The page's modules as one script, each after those that it imports.

    A page that is opened from the disk may import nothing, and a bundler would need Node.js. So a
    module becomes a function that is called where it stands and returns what the module exports,
    under the same names.

    Raises
    ------
    CycleError
        If modules import each other.
    """
    modules = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(ASSETS.glob("*.js"))
        if path.name != CHART
    }
    order = TopologicalSorter({name: _IMPORT.findall(text) for name, text in modules.items()})
    return "\n".join(_as_function(name, modules[name]) for name in order.static_order())


def _as_function(name: str, module: str) -> str:
    exported = ", ".join(_EXPORT.findall(module))
    body = _EXPORT.sub("", _IMPORT.sub("", module)).strip()
    names = f"{{ {exported} }}"
    return f"// {name}\nconst {names} = (() => {{\n{body}\nreturn {names};\n}})();\n"


def _json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")

"""The explorer's data against what they were made from."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.explorer_study import BEFORE, CONTEXT, NEURONPEDIA, THETA, WORDS, made_up_study
from sae_stitching.explorer.data import CHUNK, token_texts, write_explorer
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_up_study(tmp_path_factory.mktemp("study"))


def test_study_part_names_saes_and_pairs(study):
    parts, saes, pairs, _ = study
    about = parts["study"]
    assert about["saes"] == [
        {"name": "6", "d_sae": 6, "neuronpedia": NEURONPEDIA},
        {"name": "12", "d_sae": 12},
    ]
    (pair,) = about["pairs"]
    assert (pair["small"], pair["large"], pair["theta"]) == (0, 1, THETA)
    assert pair["n_novel"] == (pairs[0].similarity.max_cosine_large < np.float32(THETA)).sum()
    assert about["n_tokens"] == saes["6"].n_tokens


def test_latents_and_passages_are_those_of_the_text(study):
    parts, saes, _, tokens = study
    for number, passages in enumerate(saes.values()):
        latents = parts[f"latents/{number}"]
        assert latents["n_active"] == passages.n_active.tolist()
        assert set(parts) >= {
            f"passages/{number}/{i}" for i in range(-(-len(passages.n_active) // CHUNK))
        }
        for latent in range(len(passages.n_active)):
            listed = parts[f"passages/{number}/{latent // CHUNK}"][latent % CHUNK]
            there = np.flatnonzero(passages.sequence[latent] >= 0)
            assert len(listed) == len(there)
            for i, (document, sequence, position, marked, words, active) in zip(
                there, listed, strict=True
            ):
                assert document == [0, 0, 1, 1, 2][sequence]
                assert (sequence, position) == (
                    passages.sequence[latent, i],
                    passages.position[latent, i],
                )
                first = max(1, position - BEFORE)
                expected = tokens[sequence, first : min(position + 4, CONTEXT)]
                assert [parts["vocabulary"][w] for w in words] == [WORDS[t] for t in expected]
                assert first + marked == position
                window = passages.window[latent, i]
                found = dict(zip(active[::2], active[1::2], strict=True))
                for place in range(len(words)):
                    value = window[first + place - position + BEFORE]
                    assert found.get(place, 0) == pytest.approx(value, rel=5e-3)
            top = latents["top"][latent]
            assert (top == -1) == (len(listed) == 0)
            if listed:
                assert top == listed[0][4][listed[0][3]]


def test_pair_part_holds_effects_and_families(study):
    parts, _, (pair,), _ = study
    part = parts["pair/0"]
    active = pair.insertions.n_active > 0
    effects = np.array(part["large"]["delta_mse"], dtype=float)
    np.testing.assert_allclose(effects[active], pair.insertions.delta_mse[active], rtol=1e-3)
    assert np.isnan(effects[~active]).all()
    assert (~active).any()
    np.testing.assert_allclose(
        part["large"]["max_cosine"], pair.similarity.max_cosine_large, rtol=1e-3
    )
    for side in ("small", "large"):
        assert part[side]["family"] == getattr(pair.subgraphs, f"component_{side}").tolist()
    np.testing.assert_allclose(part["families"]["delta_l0"], pair.swaps.delta_l0, rtol=1e-3)


def test_links_are_the_edges_and_the_nearest(study):
    parts, _, (pair,), _ = study
    part, compared = parts["links/0"], pair.similarity
    edges = list(zip(*part["edges"].values(), strict=True))
    expected = {
        (s, t): c
        for s, t, c in zip(
            compared.edge_small, compared.edge_large, compared.edge_cosine, strict=True
        )
        if c >= np.float32(THETA)
    }
    assert {(s, t) for s, t, _ in edges} == set(expected)
    assert all(c == pytest.approx(expected[s, t], rel=1e-3) for s, t, c in edges)
    for side, other in (("large", "small"), ("small", "large")):
        for latent, flat in enumerate(part[side]):
            mine = getattr(compared, f"edge_{side}") == latent
            cosines = sorted(
                zip(
                    -compared.edge_cosine[mine],
                    getattr(compared, f"edge_{other}")[mine],
                    strict=True,
                )
            )
            names = [int(name) for _, name in cosines[:3]] or [
                int(getattr(compared, f"argmax_{side}")[latent])
            ]
            assert flat[::2] == names
            assert flat[1::2] == sorted(flat[1::2], reverse=True)


class Scripts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.scripts:
            self.scripts[-1][1] += data


def parsed(path):
    parser = Scripts()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def test_a_small_study_is_one_file_whose_data_cannot_end_their_element(study, tmp_path):
    parts = study[0]
    write_explorer(parts, tmp_path / "explorer", inline_mb=1)
    assert [path.name for path in (tmp_path / "explorer").iterdir()] == ["index.html"]
    page = parsed(tmp_path / "explorer" / "index.html")
    inside = {
        attrs["data-part"]: json.loads(text) for attrs, text in page.scripts if "data-part" in attrs
    }
    assert inside == json.loads(json.dumps(parts))
    assert not [
        tag for tag, attrs in page.tags if tag in ("img", "link", "iframe") or "src" in attrs
    ]
    whole = (tmp_path / "explorer" / "index.html").read_text(encoding="utf-8")
    assert "window.hacked = 1</script>" not in whole
    assert "made-up &lt;b&gt;study&lt;/b&gt;" in whole
    assert not re.search(r"@@[A-Z]+@@", whole)


def test_a_large_study_lies_beside_the_page(study, tmp_path):
    parts, folder = study[0], tmp_path / "explorer"
    stale = folder / "data" / "passages-7-0.js"
    stale.parent.mkdir(parents=True)
    stale.write_text("part('passages/7/0', [])")
    write_explorer(parts, folder, inline_mb=0)
    names = {path.name for path in (folder / "data").iterdir()}
    assert names == {f"{name.replace('/', '-')}.js" for name in parts if name != "study"}
    text = (folder / "data" / "links-0.js").read_text(encoding="utf-8")
    called = re.fullmatch(r'part\("links/0",(.*)\)\n', text, re.DOTALL)
    assert called
    assert json.loads(called[1]) == json.loads(json.dumps(parts["links/0"]))
    first = {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    write_explorer(parts, folder, inline_mb=0)
    assert first == {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize(
    ("vocabulary", "decoder", "texts"),
    [
        (["Ġthe", "cat", "âĤ", "<", "Ċ"], decoders.ByteLevel(), [" the", "cat", "�", "<", "\n"]),
        (["▁the", "cat", "▁", "<", "▁▁"], decoders.Metaspace(), [" the", "cat", " ", "<", "  "]),
    ],
)
def test_texts_of_single_tokens(vocabulary, decoder, texts):
    tokenizer = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(vocabulary)}, merges=[]))
    tokenizer.decoder = decoder
    assert token_texts(PreTrainedTokenizerFast(tokenizer_object=tokenizer), range(5)) == texts

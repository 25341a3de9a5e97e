"""Config files and --config: read so that nothing gets lost, or refused with the place in them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.config.files import Config, join_key, read_config
from sae_stitching.config.study import read_study
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(content: str | bytes, name: str = "my.yaml") -> Config:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_config([name])


# What is in a file that cannot be read as it was meant, and what is said of it

TWICE = "{} is given twice, first in line {}; remove one"
FILES: list[tuple[str | bytes, str]] = [
    # Repeated keys
    ("training: {steps: 60, steps: 7}", ", line 1: " + TWICE.format("training.steps", 1)),
    (
        "training:\n  steps: 60\n  lr: 1.0\n  steps: 7\n",
        ", line 4: " + TWICE.format("training.steps", 2),
    ),
    ("study: a\nmodel: {}\nstudy: a\n", ", line 3: " + TWICE.format("study", 1)),
    ("saes:\n  - d_sae: 3\n    k: 1\n    k: 1\n", ", line 4: " + TWICE.format("saes[0].k", 3)),
    ('a: 1\n"a": 2\n', ", line 2: " + TWICE.format("a", 1)),
    ('{\n\t"a": {"b": 1e-3,\n\t\t"b": 2}\n}', ", line 3: " + TWICE.format("a.b", 2)),
    ("a: &x {b: 1, b: 2}\nc: {<<: *x}\n", ", line 1: " + TWICE.format("a.b", 1)),
    ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x\n", ", line 4: " + TWICE.format("c.'<<'", 3)),
    # Encodings
    (
        "study: a\ntext: Jäger".encode("latin-1"),
        ", line 2: byte 0xe4 is not UTF-8; save the file as UTF-8",
    ),
    ("study: ä".encode("utf-16"), ": is UTF-16 or UTF-32, not UTF-8; save it as UTF-8"),
    ("study: a".encode("utf-16-le"), ": is UTF-16 or UTF-32, not UTF-8; save it as UTF-8"),
    ("study: a".encode("utf-32-be"), ": is UTF-16 or UTF-32, not UTF-8; save it as UTF-8"),
    (
        "study: a\nmodel: b\0",
        ", line 2: holds the character '\\x00', which YAML does not allow; remove it",
    ),
    # No mapping
    ("", ": is empty; write the config's keys there, each at the beginning of a line"),
    ("# study: a\n", ": is empty; write the config's keys there, each at the beginning of a line"),
    ("- a\n", ": holds a list; write the config's keys there, each at the beginning of a line"),
    ("study", ": holds no keys; write the config's keys there, each at the beginning of a line"),
    ("[1]", ": holds a list; write the config's keys there, each at the beginning of a line"),
    # No YAML
    (
        "study: a\nsaes: [{d_sae: 3}\ntraining: {}\n",
        ", line 3, column 1: expected ',' or ']', but got '<scalar>' (while parsing a flow "
        "sequence from line 2 on); correct it there",
    ),
    (
        "training:\n\tsteps: 3\n",
        ", line 2, column 1: found character '\\t' that cannot start any token; indent with "
        "spaces, not with tabs",
    ),
    (
        "study: a: b\n",
        ", line 1, column 9: mapping values are not allowed here; put a text with a colon in "
        "quotes, or begin a new line",
    ),
    (
        "text:\n  files: [*.txt]\n",
        ", line 2, column 12: expected alphabetic or numeric character, but found '.'; put a text "
        "with * in quotes",
    ),
    (
        "text: {files: *all}\n",
        ", line 1, column 15: found undefined alias 'all'; put a text with * in quotes",
    ),
    (
        "study: @a\n",
        ", line 1, column 8: found character '@' that cannot start any token; put the text in "
        "quotes",
    ),
    ('study: "a\n', ", line 2, column 1: found unexpected end of stream (while scanning a quoted "
     "scalar from line 1 on); close the quotes"),
    (
        "study: a\n---\nstudy: b\n",
        ", line 2, column 1: found another document; keep one of them: remove the line ---",
    ),
    (
        "a: 1\n b: 2\n",
        ", line 2, column 3: mapping values are not allowed here; put a text with a colon in "
        "quotes, or begin a new line",
    ),
    # What YAML has and a config has not
    (
        'study: !!python/object/apply:os.system ["touch ran"]\n',
        ", line 1, column 8: could not determine a constructor for the tag "
        "'!!python/object/apply:os.system'; put a text with ! in quotes; other tags are not "
        "understood",
    ),
    (
        "study: !!python/name:os.system\n",
        ", line 1, column 8: could not determine a constructor for the tag "
        "'!!python/name:os.system'; put a text with ! in quotes; other tags are not understood",
    ),
    (
        "a: !b c\n",
        ", line 1, column 4: could not determine a constructor for the tag '!b'; put a text with ! "
        "in quotes; other tags are not understood",
    ),
    ("a:\n  - &x [*x]\n", ", line 2: a[0][0] holds itself; write it out"),
    ("? [1]\n: 2\n", ", line 1: a list or mapping is no key; write text"),
    ("a: " + 2000 * "[", ": is nested too deeply; write it flatter"),
    (
        "study: 2024-13-45\n",
        ", line 1: study: YAML cannot read '2024-13-45' as timestamp (month must be in 1..12); "
        "put it in quotes",
    ),
    (
        "a: 1\n<<: 3\n",
        ", line 2, column 5: expected a mapping or list of mappings for merging, but found scalar "
        "(while constructing a mapping from line 1 on); give << the name of a mapping (*name)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), FILES, ids=[m[:60] for _, m in FILES])
def test_a_file_that_is_not_understood(content, message, here):
    with pytest.raises(StudyError) as error:
        read(content)
    assert str(error.value) == f"my.yaml{message}"
    assert not (here / "ran").exists()


def test_a_file_that_cannot_be_opened():
    for name, message in {
        "none.yaml": "none.yaml: no such file; check the path",
        "..": "..: cannot be read (Is a directory); name a file",
    }.items():
        with pytest.raises(StudyError) as error:
            read_config([name])
        assert str(error.value) == message


# What is in a file that can be read


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_read_as_snakemake_reads_them(path):
    assert read_config([path]).values == load_configfile(path)


def test_configs_are_laid_over_each_other_as_snakemake_does():
    for path in CONFIGS[1:]:
        expected = load_configfile(CONFIGS[0])
        update_config(expected, load_configfile(path))
        assert read_config([CONFIGS[0], path]).values == expected


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        # YAML reads no key of over 1,024 characters, and writes up to ten for one.
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=90), inner),
        max_leaves=8,
    )
)
def test_whatever_is_written_is_read(value):
    path = Path("any.yaml")
    for text in (yaml.safe_dump({"a": value}), json.dumps({"a": value})):
        path.write_text(text, encoding="utf-8")
        assert read_config([path]).values == {"a": value}


def test_windows_line_ends_and_a_byte_order_mark():
    assert read("\ufeffstudy: a\r\nsaes: []\r\n").values == {"study": "a", "saes": []}


def test_anchors_and_merge_keys():
    config = read("base: &b {k: 1, lr: 2}\none: *b\nother:\n  <<: *b\n  k: 3\n")
    assert config.values["one"] == {"k": 1, "lr": 2}
    assert config.values["other"] == {"k": 3, "lr": 2}
    assert config.places["other.k"] == "my.yaml, line 5"


def test_numbers_know_how_they_are_written():
    written = ["016", "1_000", "0x10", "0b11", "+5", "1:30", "1.50", "5", "2.5"]
    values = read(f"a: [{', '.join(written)}]").values["a"]
    assert values == [14, 1000, 16, 3, 5, 90, 1.5, 5, 2.5]
    assert [str(value) for value in values] == written
    assert [f"{value}" for value in values] == written
    assert json.dumps(values) == "[14, 1000, 16, 3, 5, 90, 1.5, 5, 2.5]"


# Arguments


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["training={steps: 9}"], {"training": {"steps": 9}}),
        (["training={steps: 9}", "training={k: 2}"], {"training": {"steps": 9, "k": 2}}),
        (["saes=[{d_sae: 3}, {d_sae: 5}]"], {"saes": [{"d_sae": 3}, {"d_sae": 5}]}),
        (["figures={'dpi': 77}"], {"figures": {"dpi": 77}}),
        (["study=a", 'cache="016"'], {"study": "a", "cache": "016"}),
        (["cache=@disk: 2"], {"cache": "@disk: 2"}),
        (["paper="], {"paper": None}),
        (["cache=a=b"], {"cache": "a=b"}),
    ],
)
def test_arguments(arguments, values):
    assert read_config([], arguments).values == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["training"],
            "--config training: write KEY=VALUE, such as --config 'training={steps: 9}'",
        ),
        (["=3"], "--config =3: write KEY=VALUE, such as --config 'training={steps: 9}'"),
        (
            ["training={steps: 9"],
            "--config training, line 1, column 10: expected ',' or '}', but got '<stream end>'; "
            "correct it there",
        ),
        (
            ["training={steps: 60, steps: 7}"],
            "--config training, line 1: steps is given twice, first in line 1; remove one",
        ),
        (
            ["training={steps: 60}", "training={steps: 7}"],
            "--config: training.steps is given twice; remove one",
        ),
        (
            ["training.steps=9"],
            "--config training.steps: no key has a dot in it; write --config 'training={steps: 9}'",
        ),
        (["a.b.c=x"], "--config a.b.c: no key has a dot in it; write --config 'a={b: {c: x}}'"),
        (["1x=3"], "--config 1x: is no key of a config; schemas/config.schema.yaml names them"),
        (["x=3"], "--config x: is no key of a config; schemas/config.schema.yaml names them"),
    ],
)
def test_arguments_that_are_not_understood(arguments, message):
    with pytest.raises(StudyError) as error:
        read_config([], arguments)
    assert str(error.value) == message


# Where a complaint of the study comes from


def complaint(files: dict[str, str], *arguments: str) -> str:
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")
    with pytest.raises(StudyError) as error:
        read_study(ROOT, files, arguments)
    return str(error.value)


def test_a_complaint_names_the_place_of_its_key():
    base = "study: a\n"
    wrong = "training:\n  lr: 1.0\n  steps: many\n"
    steps = "training.steps: 'many' is text, not a whole number; give a whole number"
    assert complaint({"a.yaml": base, "b.yaml": wrong}) == f"b.yaml, line 3: {steps}"
    assert complaint({"b.yaml": wrong, "a.yaml": base}) == f"b.yaml, line 3: {steps}"
    assert complaint({"a.yaml": base}, "training={steps: many}") == f"--config training: {steps}"
    # A later file hides what an earlier one says.
    good = "training: {steps: 500}\n"
    said = complaint({"b.yaml": wrong, "c.yaml": good, "d.yaml": "figures:\n  dpi: 1\n"})
    assert said.startswith("d.yaml, line 2: figures.dpi: 1 is out of range; ")
    # A list is replaced as a whole, its places too.
    saes = "saes:\n  - {d_sae: 3}\n  - {name: x, d_sae: 0}\n"
    assert complaint({"s.yaml": saes}).startswith("s.yaml, line 3: saes[1].d_sae: 0 is out of")
    missing = complaint({"s.yaml": "saes:\n  - {d_sae: 3}\n  - {k: 1}\n"})
    assert missing.startswith("s.yaml, line 3: saes[1].d_sae: this key is missing")
    # What several keys show together is said of the key that is to be changed.
    assert complaint({"s.yaml": "training:\n  steps: 5\n"}).startswith("s.yaml, line 1: training.")


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.text())
def test_no_message_ends_the_search_for_its_place(keys, rest):
    config = Config({}, {"a": "here"})
    path = ""
    for key in keys:
        path = join_key(path, key)
    assert config.place(f"{path}: {rest}") in ("", "here")
    assert config.place(rest) in ("", "here")


def test_names_mean_themselves():
    Path("my.yaml").write_text(
        "sources: {small: {kind: random-model, n_layers: 2, d_model: 32, n_heads: 2, context: 128}}"
        "\nmodel: {name: small, hook: blocks.1.hook_resid_pre}\n"
        "saes:\n  - {name: 016, d_sae: 16}\n  - {name: 1e1, d_sae: 32}\n"
        "  - {name: 1_0, d_sae: 64}\n"
        "  - {name: NaN, d_sae: 128}\n  - {name: 0x10, d_sae: 256}\n"
        "stitched: [{name: 007, base: 016, insert: [{sae: 1_0, select: novel}]}]\n"
        "stitching: {pairs: [[016, 1e1], [016, NaN], [1_0, 0x10]], transition: [016, 1e1]}\n"
    )
    study = read_study(ROOT, ["my.yaml"], [])
    assert [sae["name"] for sae in study["saes"]] == ["016", "1e1", "1_0", "NaN", "0x10"]
    assert study["stitched"][0]["name"] == "007"
    assert study["stitched"][0]["base"] == "016"
    assert study["stitched"][0]["insert"][0]["sae"] == "1_0"
    assert study["stitching"]["pairs"] == [["016", "1e1"], ["016", "NaN"], ["1_0", "0x10"]]
    assert study["stitching"]["transition"] == ["016", "1e1"]
    assert {type(sae["d_sae"]) for sae in study["saes"]} == {int}


LETTERS = (
    "use letters, digits, '.', '_' and single '-' between them, with a letter or digit first ('--' "
    "stands between the SAEs of a pair)"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1.0", '1.0 is a number, not text; put it in quotes: "1.0"'),
        ("1.50", '1.50 is a number, not text; put it in quotes: "1.50"'),
        ("1.0e+3", '1.0e+3 is a number, not text; put it in quotes: "1.0e+3"'),
        ("1:30", f"1:30 is not allowed; {LETTERS}"),
        ("-1", f"-1 is not allowed; {LETTERS}"),
        ("+1", f"+1 is not allowed; {LETTERS}"),
        ("..", f"'..' is not allowed; {LETTERS}"),
        ("__proto__", f"'__proto__' is not allowed; {LETTERS}"),
        ("a--b", f"'a--b' is not allowed; {LETTERS}"),
        ("'a '", f"'a ' is not allowed; {LETTERS}"),
        ("a/b", f"'a/b' is not allowed; {LETTERS}"),
        ("$x$", f"'$x$' is not allowed; {LETTERS}"),
        (101 * "a", "the text has 101 characters; give at most 100"),
        ("on", "true is not text or a whole number; put it in quotes (YAML reads yes, no, on and "
         "off as true and false)"),
        ("null", "nothing is given; give text or a whole number"),
        (".nan", ".nan is not a finite number; give one"),
        ("2024-05-01", 'YAML reads 2024-05-01 as a date; put it in quotes: "2024-05-01"'),
    ],
)  # fmt: skip
def test_names_that_are_refused(name, message):
    said = complaint({"my.yaml": f"saes:\n  - {{d_sae: 64}}\n  - {{name: {name}, d_sae: 128}}\n"})
    assert said == f"my.yaml, line 3: saes[1].name: {message}"


def test_numbers_that_yaml_misreads():
    for text, number in {"0100": 64, "1:30": 90}.items():
        assert complaint({"my.yaml": f"training: {{steps: {text}}}"}) == (
            f"my.yaml, line 1: training.steps: YAML reads {text} as {number}; write the number "
            "that is meant"
        )
    assert complaint({"my.yaml": "training: {lr: 1:30.5}"}) == (
        "my.yaml, line 1: training.lr: YAML reads 1:30.5 as 90.5; write the number that is meant"
    )


# Through Snakemake, which reads them as well


def snakemake(*arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    said = [line for line in run.stderr.splitlines() if not line.startswith("Using workflow")]
    return run.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--configfile", "broken.yaml"],
            "broken.yaml, line 2, column 1: expected ',' or ']', but got '<stream end>' (while "
            "parsing a flow sequence from line 1 on); correct it there",
        ),
        (
            ["--configfile", "latin.yaml"],
            "latin.yaml, line 1: byte 0xe4 is not UTF-8; save the file as UTF-8",
        ),
        (["--configfile", "none.yaml"], "none.yaml: no such file; check the path"),
        (
            ["--config", "training"],
            "--config training: write KEY=VALUE, such as --config 'training={steps: 9}'",
        ),
        (
            ["--workflow-profile", "none", "--configfile", "twice.yaml"],
            "twice.yaml, line 1: training.steps is given twice, first in line 1; remove one",
        ),
        (
            ["--workflow-profile", str(ROOT / "profiles" / "slurm"), "--configfile", "twice.yaml"],
            "twice.yaml, line 1: training.steps is given twice, first in line 1; remove one",
        ),
    ],
)
def test_one_line_through_snakemake(arguments, message, here):
    Path("broken.yaml").write_text("study: [a\n")
    Path("latin.yaml").write_bytes("study: Jäger".encode("latin-1"))
    Path("twice.yaml").write_text("training: {steps: 60, steps: 7}\n")
    assert snakemake(*arguments) == (1, [f"error in the config: {message}"])
    assert "results" not in os.listdir(here)


def test_the_longest_names_are_names_of_files():
    """Each is written under a temporary name first, which is 34 bytes longer."""
    names = [f"{99 * 'x'}{n}" for n in range(2)]
    Path("long.yaml").write_text(
        f"study: {100 * 's'}\n"
        f"saes: [{{name: {names[0]}, d_sae: 32}}, {{name: {names[1]}, d_sae: 64}}]\nstitched: []\n"
    )
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    tiny = str(ROOT / "presets" / "tiny.yaml")
    configs = ["--configfile", tiny, "long.yaml"]
    run = subprocess.run([*command, *configs], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    paths = re.findall(r"results/[^ ,\n]+", run.stdout)
    parts = {part for path in paths for part in path.split("/")}
    assert f"figure4_{names[0]}--{names[1]}.pdf" in parts
    assert max(len(part.encode()) for part in parts) + 34 <= 255

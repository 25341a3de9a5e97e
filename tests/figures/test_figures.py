"""What the figures show, and the files they are saved as."""

from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers.drawings import artists, insertions, latents, render, roc_of, step, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_rgba
from matplotlib.figure import Figure
from sae_stitching.base.errors import StudyError
from sae_stitching.figures import figure5 as figure5_module
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.figure13 import figure13, figure13_table
from sae_stitching.figures.style import (
    DECREASES_MSE,
    INCREASES_MSE,
    SEQUENCE,
    sae_label,
    save_figure,
    sequence_style,
    style,
)
from sae_stitching.figures.training_curve import training_curve, training_curve_table
from sae_stitching.stitching.transitions import KINDS


def legend_rows(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# Figure 4


def test_figure4_table_holds_the_active_latents():
    found = latents()
    table = figure4_table(found, theta=0.7)
    active = np.flatnonzero(found.n_active > 0)
    assert table["latent"].tolist() == active.tolist()
    np.testing.assert_array_equal(table["delta_mse"], found.delta_mse[active])
    np.testing.assert_array_equal(table["standard_error"], found.standard_error[active])
    np.testing.assert_array_equal(table["effect"] == "decreases", found.delta_mse[active] < 0)
    np.testing.assert_array_equal(table["group"] == "novel", found.max_cosine[active] < 0.7)
    assert set(table["effect"]) == {"decreases", "increases"}
    assert set(table["group"]) == {"novel", "reconstruction"}


def test_figure4_table_groups_strictly_below_theta():
    table = figure4_table(insertions([-1.0, 0.0], [1, 1], [0.5, np.nextafter(0.5, 0)]), theta=0.5)
    assert table["group"].tolist() == ["reconstruction", "novel"]
    assert table["effect"].tolist() == ["decreases", "increases"]


def test_insertions_of_different_lengths():
    with pytest.raises(StudyError, match=r"max_cosine \(2,\) must be one value a latent"):
        insertions([1.0], [1], [0.1, 0.2])


def test_figure4_draws_every_latent_once_with_its_colour():
    table = figure4_table(latents(), theta=0.7)
    figure = render(figure4(latents(), 0.7, small="576", large="1152"))
    (inside,) = artists(figure, "latents")
    beyond = artists(figure, "beyond")
    assert len(beyond) == 2
    offsets = [collection.get_offsets() for collection in (inside, *beyond)]
    assert sum(map(len, offsets)) == len(table)
    np.testing.assert_allclose(np.sort(np.concatenate(offsets)[:, 0]), np.sort(table["max_cosine"]))
    axes = inside.axes
    low, high = axes.get_ylim()
    within = table[table["delta_mse"].between(low, high)]
    np.testing.assert_allclose(offsets[0], within[["max_cosine", "delta_mse"]])
    expected = [
        to_rgba(DECREASES_MSE if effect == "decreases" else INCREASES_MSE, 0.55)
        for effect in within["effect"]
    ]
    np.testing.assert_allclose(inside.get_facecolors(), expected)
    # The markers of what lies beyond are themselves inside the axis.
    assert all(((low < at) & (at < high)).all() for at in (o[:, 1] for o in offsets[1:]))
    assert not inside.get_rasterized()


def test_figure4_says_what_lies_beyond_the_axis_and_what_is_left_out():
    found = latents()
    more = np.zeros(2000)  # never active
    found = insertions(
        *(np.append(getattr(found, name), more) for name in ("delta_mse", "n_active", "max_cosine"))
    )
    table = figure4_table(found, theta=0.7)
    figure = figure4(found, 0.7, small="576", large="1152")
    low, high = artists(figure, "latents")[0].axes.get_ylim()
    shown = texts(figure)
    assert "Adding each latent of SAE-1152 to SAE-576" in shown
    assert "Change in MSE when added" in shown
    for mark, n in (
        ("▲", (table["delta_mse"] > high).sum()),
        ("▼", (table["delta_mse"] < low).sum()),
    ):
        assert f"{mark} {n} latent{'s' if n > 1 else ''} beyond the axis" in shown
    assert f"{len(found.n_active) - len(table):,} never active" in shown
    assert "up to 40$\\times 10^{-4}$" in shown
    n_novel = (table["group"] == "novel").sum()
    assert f"{n_novel} novel (left of θ), {len(table) - n_novel} reconstruction" in shown


def test_figure4_marks_theta_and_its_histograms_count_every_latent():
    found = replace(latents(), n_active=np.ones(400, dtype=int))
    table = figure4_table(found, theta=0.62)
    figure = figure4(found, 0.62, small="576", large="1152")
    lines = artists(figure, "theta")
    assert len(lines) == 2
    assert all(list(line.get_xdata()) == [0.62, 0.62] for line in lines)
    assert all(line.get_linestyle() == "--" for line in lines)
    assert "θ = 0.62" in texts(figure)
    assert "never active" not in texts(figure)
    top = lines[1].axes
    assert sum(patch.get_height() for patch in top.patches) == len(table)
    (right,) = [a for a in figure.axes if a.patches and a is not top]
    assert sum(patch.get_width() for patch in right.patches) == len(table)
    # No bar holds both latents that lower the MSE and latents that raise it.
    assert any(abs(patch.get_y()) < 1e-12 for patch in right.patches)
    for patch in right.patches:
        lowers = same_color(patch.get_facecolor()[:3], DECREASES_MSE)
        if patch.get_width():
            assert (patch.get_y() + patch.get_height() / 2 < 0) == lowers


def test_figure4_shows_all_where_nothing_is_far_out():
    delta = np.linspace(-1, 2, 50)
    found = insertions(delta, np.ones(50), np.linspace(-0.25, 1, 50))
    figure = render(figure4(found, 0.5, small="a", large="b"))
    (inside,) = artists(figure, "latents")
    assert len(inside.get_offsets()) == 50
    assert not artists(figure, "beyond")
    assert "beyond" not in texts(figure)
    assert inside.axes.get_xlim()[0] <= -0.25


@pytest.mark.parametrize("theta", [-0.5, 1.0])
def test_figure4_of_all_novel_no_novel_or_one_effect(theta):
    found = latents()
    found = insertions(-np.abs(found.delta_mse), found.n_active, found.max_cosine * 0.9)
    assert figure4_table(found, theta)["group"].nunique() == 1
    figure = render(figure4(found, theta, small="576", large="1152"))
    left, right = artists(figure, "latents")[0].axes.get_xlim()
    assert left <= theta <= right
    assert "increases MSE (0)" in texts(figure)


@pytest.mark.parametrize("rows", [0, 1])
def test_figure4_of_no_latent_or_one(rows, tmp_path):
    found = latents()
    active = np.flatnonzero(found.n_active)[:rows]
    found = insertions(found.delta_mse[active], found.n_active[active], found.max_cosine[active])
    figure = render(figure4(found, 0.7, small="576", large="1152"))
    save_figure(figure, figure4_table(found, 0.7), tmp_path / "figure4")
    assert f"{rows} reconstruction" in texts(figure) or f"{rows} novel" in texts(figure)


def test_figure4_of_many_latents_is_an_image_inside_the_pdf(tmp_path):
    found = latents(n=30_000)
    figure = figure4(found, 0.7, small="576", large="1152")
    assert artists(figure, "latents")[0].get_rasterized()
    save_figure(figure, figure4_table(found, 0.7), [tmp_path / "figure4.pdf"])
    assert (tmp_path / "figure4.pdf").stat().st_size < 500_000


# Figure 5


def test_figure5_table_holds_every_operation():
    steps = step(4, 8, novel=4) | step(8, 12, novel=4, swaps=[])
    table = figure5_table(steps)
    assert list(table) == [
        "step", "small", "large", "operation", "kind", "n_latents", "mse", "l0"
    ]  # fmt: skip
    for number, ((small, large), values) in enumerate(steps.items()):
        part = table[table["step"] == number]
        assert part["operation"].tolist() == list(range(len(values.kind)))
        assert part["kind"].tolist() == [KINDS[kind] for kind in values.kind]
        for name in ("n_latents", "mse", "l0"):
            np.testing.assert_array_equal(part[name], getattr(values, name))
        assert (set(part["small"]), set(part["large"])) == ({small}, {large})
    assert set(table["kind"]) == set(KINDS)


def test_figure5_table_of_broken_steps():
    ((pair, sound),) = step().items()
    with pytest.raises(StudyError, match=r"4--8: .*differ in length"):
        figure5_table({pair: replace(sound, l0=sound.l0[1:])})
    with pytest.raises(StudyError, match="kind holds 7"):
        figure5_table({pair: replace(sound, kind=sound.kind + 7 - sound.kind.max())})
    with pytest.raises(StudyError, match=r"stitching\.transition"):
        figure5_table({})


def test_figure5_draws_every_operation_in_order():
    table = figure5_table(step(4, 8, novel=4) | step(8, 12, novel=4, swaps=[]))
    figure = render(figure5(table))
    assert len(figure.axes) == 2
    for axes, quantity in zip(figure.axes, ("mse", "l0"), strict=True):
        for number, part in table.groupby("step"):
            color = SEQUENCE[number]
            lines = [
                line
                for line in axes.lines
                if line.get_gid() in KINDS and same_color(line.get_color(), color)
            ]
            # Each phase begins where the one before it ended.
            drawn = [line.get_xydata() for line in lines]
            for before, after in pairwise(drawn):
                np.testing.assert_array_equal(before[-1], after[0])
            path = np.concatenate([drawn[0], *(points[1:] for points in drawn[1:])])
            np.testing.assert_array_equal(path, part[["n_latents", quantity]])
        looks = {
            line.get_gid(): (line.get_linestyle(), line.get_linewidth())
            for line in axes.lines
            if line.get_gid() in KINDS
        }
        assert len(set(looks.values())) == len(looks) == 3
    shown = texts(figure)
    for text in ("Mean MSE", "Mean L0", "Total number of latents", "SAE-4", "SAE-8", "SAE-12"):
        assert text in shown
    assert "Transition from SAE-4 to SAE-12" in shown
    assert legend_rows(figure) == [
        "novel latents inserted", "subgraphs swapped", "unmatched dropped"
    ]  # fmt: skip


def test_figure5_marks_and_names_every_sae_once():
    table = figure5_table(step(4, 8, 4) | step(8, 12, 4, swaps=[]))
    figure = figure5(table)
    names = [text.get_text() for text in artists(figure, "SAE")]
    assert sorted(names) == ["SAE-12", "SAE-4", "SAE-8"]
    dots = artists(figure, "SAEs")
    assert len(dots) == 4
    for axes in figure.axes:
        drawn = [list(line.get_xdata()) for line in dots if line.axes is axes]
        assert drawn == [[4, 8], [8, 12]]
    shades = artists(figure, "insert phase")
    assert sorted({(s.get_x(), s.get_x() + s.get_width()) for s in shades}) == [(4, 8), (8, 12)]


def test_figure5_without_novel_latents_or_drops():
    table = figure5_table(step(4, 8, novel=0, swaps=[(4, 8)]))
    figure = render(figure5(table))
    assert legend_rows(figure) == ["subgraphs swapped"]


def test_figure5_draws_fewer_of_many_operations_but_all_ends(monkeypatch):
    monkeypatch.setattr(figure5_module, "DRAWN", 100)
    ((pair, values),) = step(600, 1600, novel=900, swaps=[(1, 2)] * 150).items()
    table = figure5_table({pair: values})
    figure = figure5(table)
    points = [line.get_xydata() for line in figure.axes[0].lines if line.get_gid() in KINDS]
    assert sum(map(len, points)) < 120
    ends = {(x, y) for line in points for x, y in line[[0, -1]]}
    kind = values.kind
    for at in (0, *np.flatnonzero(np.diff(kind)), len(kind) - 1):
        if at or kind[1] == 1:
            assert (values.n_latents[at], values.mse[at]) in ends


def test_figure5_names_that_would_touch_stand_in_rows():
    sizes = [768, 800, 830, 12288]
    steps = {}
    for a, b in pairwise(sizes):
        steps |= step(a, b, novel=b - a, swaps=[])
    figure = figure5(figure5_table(steps))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in artists(figure, "SAE")]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


# Figure 13


def test_figure13_table_is_the_same_curve_and_the_marked_points():
    rocs = {("576", "1152"): roc_of(0), ("1152", "2304"): roc_of(1)}
    table = figure13_table(rocs, {("576", "1152"): 0.7})
    for (small, large), roc in rocs.items():
        part = table[(table["small"] == small) & (table["large"] == large)]
        assert set(part["pair"]) == {f"{large} → {small}"}
        assert set(part["auc"]) == {roc.auc}
        curve = part[part["point"] == "curve"]
        assert 2 < len(curve) < len(roc.fpr)
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(roc.auc, abs=1e-12)
        for row in curve.itertuples():
            assert roc.at(row.threshold) == (row.fpr, row.tpr)
        best = part[part["point"] == "theta_best"].iloc[0]
        assert best["threshold"] == roc.theta_best
        assert best["tpr"] - best["fpr"] == (roc.tpr - roc.fpr).max()
    marked = table[table["point"] == "theta"]
    assert marked["small"].tolist() == ["576"]
    assert tuple(marked[["fpr", "tpr"]].iloc[0]) == rocs["576", "1152"].at(0.7)


def test_figure13_draws_the_curves_the_points_and_the_auc():
    rocs = {("576", "1152"): roc_of(0), ("1152", "2304"): roc_of(1)}
    thetas = {("576", "1152"): 0.7, ("1152", "2304"): 0.6}
    figure = render(figure13(rocs, thetas))
    table = figure13_table(rocs, thetas)
    axes = figure.axes[0]
    assert axes.get_aspect() == 1
    for gid, point in (("curve", "curve"), ("theta", "theta"), ("theta_best", "theta_best")):
        lines = [line for line in axes.lines if line.get_gid() == gid]
        assert len(lines) == 2
        drawn = np.concatenate([line.get_xydata() for line in lines])
        np.testing.assert_array_equal(drawn, table.loc[table["point"] == point, ["fpr", "tpr"]])
    assert artists(figure, "theta_best")[0].get_markerfacecolor() == "none"
    assert artists(figure, "theta")[0].get_markerfacecolor() == SEQUENCE[0]
    rows = legend_rows(figure)
    for row, ((small, large), roc) in zip(rows, rocs.items(), strict=False):
        assert row.startswith(f"{large} → {small}")
        assert row.endswith(f"{roc.auc:.2f} [{roc.auc_low:.2f}, {roc.auc_high:.2f}]")
    assert rows[2:] == ["θ of the study", "θ of greatest TPR − FPR"]


@pytest.mark.parametrize("sign", [-1, 1])
def test_figure13_of_one_class(sign, tmp_path):
    rocs = {("576", "1152"): roc_of(sign=sign), ("1152", "2304"): roc_of(1, samples=0)}
    thetas = dict.fromkeys(rocs, 0.7)
    figure, table = render(figure13(rocs, thetas)), figure13_table(rocs, thetas)
    rows = legend_rows(figure)
    assert rows[0].endswith("undefined (one class)")
    assert rows[1].endswith(f" {rocs['1152', '2304'].auc:.2f}")  # no interval asked for
    undefined = table[table["small"] == "576"]
    assert undefined["point"].tolist() == ["undefined"]
    assert undefined[["fpr", "tpr", "threshold", "auc"]].isna().all(axis=None)
    assert (undefined["n_positive"] + undefined["n_negative"]).item() > 0
    save_figure(figure, table, tmp_path / "figure13")


def test_figure13_of_undefined_pairs_alone_and_of_none():
    alone = {("576", "1152"): roc_of(sign=1)}
    assert legend_rows(render(figure13(alone))) == [
        "1152 → 576   undefined (one class)"
    ]  # fmt: skip
    assert figure13_table(alone)["point"].tolist() == ["undefined"]
    render(figure13({}))
    assert figure13_table({}).empty
    assert list(figure13_table({})) == list(figure13_table(alone))


# Style and files


def small_figures():
    table5 = figure5_table(step(4, 8, novel=4))
    rocs = {("576", "1152"): roc_of(0)}
    return {
        "figure4": (
            figure4(latents(), 0.7, small="576", large="1152"),
            figure4_table(latents(), 0.7),
        ),
        "figure5": (figure5(table5), table5),
        "figure13": (figure13(rocs, {}), figure13_table(rocs, {})),
    }


def test_files_are_the_same_bytes_and_embed_their_fonts(tmp_path):
    for folder in ("first", "second"):
        for name, (figure, table) in small_figures().items():
            save_figure(figure, table, tmp_path / folder / name, dpi=100)
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert len(files) == 9
    tables = {name: table for name, (_, table) in small_figures().items()}
    for name in files:
        first = (tmp_path / "first" / name).read_bytes()
        assert first == (tmp_path / "second" / name).read_bytes(), name
        if name.endswith(".pdf"):
            assert b"/FontFile2" in first  # TrueType (Type 42), whole and embedded
            assert b"/Type3" not in first
            assert b"CreationDate" not in first
        elif name.endswith(".png"):
            assert b"Software" not in first
            assert first.startswith(b"\x89PNG")
        else:
            stem = name.removesuffix(".csv")
            assert len(pd.read_csv(tmp_path / "first" / name)) == len(tables[stem])


def test_paths_one_by_one_and_names_with_dots(tmp_path):
    figure, table = Figure(figsize=(1, 1)), pd.DataFrame({"x": [1]})
    save_figure(figure, table, [tmp_path / "a.png", str(tmp_path / "b.csv")])
    save_figure(figure, table, tmp_path / "figure4_v1.5--v2.0")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a.png",
        "b.csv",
        "figure4_v1.5--v2.0.csv",
        "figure4_v1.5--v2.0.pdf",
        "figure4_v1.5--v2.0.png",
    ]
    with pytest.raises(StudyError, match="a figure is written as"):
        save_figure(figure, table, [tmp_path / "a.jpeg"])


def test_png_has_the_resolution_asked_for(tmp_path):
    figure = Figure(figsize=(2, 1))
    save_figure(figure, pd.DataFrame(), [tmp_path / "a.png"], dpi=150)
    header = (tmp_path / "a.png").read_bytes()[16:24]
    assert (int.from_bytes(header[:4]), int.from_bytes(header[4:])) == (300, 150)


def test_style_is_undone_and_does_not_depend_on_the_users():
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "xtick.top": True}):
        with style():
            assert matplotlib.rcParams["font.size"] == 8
            assert matplotlib.rcParams["pdf.fonttype"] == 42
            assert not matplotlib.rcParams["xtick.top"]
        assert matplotlib.rcParams["font.size"] == 30


def test_colours_and_names():
    looks = {tuple(sequence_style(i).values()) for i in range(24)}
    assert len(looks) == 24
    assert len(SEQUENCE) >= 8
    assert DECREASES_MSE != INCREASES_MSE
    assert sae_label("1152") == "SAE-1152"
    assert sae_label("gemma-16k") == "gemma-16k"


# Training curves


def curves(n_dead=0):
    step = 20 * np.arange(1, 11)
    return {
        name: pd.DataFrame(
            {
                "step": step,
                "tokens": step * 4096 * (i + 1),
                "loss": 100 / step + i,
                "fvu": 1 / (step + i),
                "l0": 1000 / step,
                "n_dead": n_dead * i,
                "settled": np.where(step % 80 == 0, step / 200, np.nan),
            }
        )
        for i, name in enumerate(("576", "1152"))
    }


@pytest.mark.parametrize("n_dead", [0, 7])
def test_training_curve_draws_every_row_of_every_sae(n_dead):
    rows = curves(n_dead)
    table = training_curve_table(rows)
    assert table.columns.tolist() == ["sae", *rows["576"].columns]
    figure = render(training_curve(table))
    for name, curve in rows.items():
        pd.testing.assert_frame_equal(
            table[table["sae"] == name].drop(columns="sae").reset_index(drop=True), curve
        )
        for column in ("loss", "fvu", "settled", "l0", "n_dead"):
            (line,) = artists(figure, f"{column} {name}")
            known = curve[curve[column].notna()]
            np.testing.assert_allclose(line.get_xdata(), known["tokens"] / 1e6)
            np.testing.assert_allclose(line.get_ydata(), known[column])
            linear = column in ("settled", "n_dead")
            assert line.axes.get_yscale() == ("linear" if linear else "log")
    assert legend_rows(figure) == ["SAE-576", "SAE-1152"]
    assert "Training tokens (millions)" in texts(figure)

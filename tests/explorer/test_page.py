"""The explorer's page in Chromium, with no network: Playwright drives Debian's chromium."""

import os
import re
import shutil
from contextlib import contextmanager
from urllib.parse import quote

import numpy as np
import pytest
from helpers.explorer_study import THETA, made_up_study
from sae_stitching.explorer.data import write_explorer
from sae_stitching.matching.decoder_similarity import Similarity

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium found: install Debian's package chromium, or name it in CHROMIUM",
)

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without the sandbox, which root cannot use; the page is our own.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The made-up study as one file, and with its data beside the page."""
    folder = tmp_path_factory.mktemp("study")
    parts, saes, pairs, _ = made_up_study(folder, sizes=(6, 12, 60))
    write_explorer(parts, folder / "one", inline_mb=10)
    write_explorer(parts, folder / "parts", inline_mb=0)
    return folder, parts, saes, pairs


@contextmanager
def opened(browser, index, address="", *, viewport=DESKTOP, theme="light"):
    """Open the page; at the end nothing may have been fetched or complained about."""
    context = browser.new_context(viewport=viewport, color_scheme=theme, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    go(page, f"{index.as_uri()}{address}")
    yield page
    assert page.evaluate("window.hacked") is None
    context.close()
    assert said == []
    here = index.parent.as_uri()
    assert all(url.startswith(here) for url in asked), asked


def go(page, url):
    page.goto(url)
    settled(page)


def settled(page, title=""):
    page.wait_for_function(
        "title => document.querySelector('main:not([aria-busy]) h1')?.textContent.includes(title)",
        arg=title,
    )


def rows(page):
    return page.locator("main table").first.locator("tbody tr")


@pytest.mark.parametrize("kind", ["one", "parts"])
def test_effects_show_the_latents_of_the_pair(browser, study, kind):
    folder, _, _, pairs = study
    with opened(browser, folder / kind / "index.html") as page:
        assert page.locator("h1").inner_text() == "Adding each latent of SAE-12 to SAE-6"
        assert rows(page).count() == 12
        delta, active = pairs[0].insertions.delta_mse, pairs[0].insertions.n_active > 0
        said = page.locator("p[role=status]").inner_text()
        assert f"12 latents of 12: {(delta[active] < 0).sum()} lower the MSE" in said
        assert "1 never active" in said
        assert page.locator("canvas").get_attribute("aria-label").startswith("Scatter")


def point_of(page, latent):
    """Where a latent's point is on the screen."""
    return page.evaluate(
        """latent => {
            const canvas = document.querySelector('canvas');
            const chart = Chart.getChart(canvas);
            const box = canvas.getBoundingClientRect();
            for (let i = 0; i < chart.data.datasets.length; i++) {
                const { data } = chart.data.datasets[i];
                const at = data.findIndex((point) => point.latent === latent);
                if (at >= 0) {
                    const { x, y } = chart.getDatasetMeta(i).data[at];
                    return { x: box.left + x, y: box.top + y };
                }
            }
        }""",
        latent,
    )


def test_hover_and_click_a_point(browser, study):
    folder, _, _, pairs = study
    latent = int(np.argmin(pairs[0].insertions.delta_mse))
    with opened(browser, folder / "one" / "index.html") as page:
        at = point_of(page, latent)
        page.mouse.move(at["x"], at["y"])
        tooltip = page.locator("#tooltip")
        tooltip.wait_for(state="visible")
        said = tooltip.inner_text()
        assert f"SAE-12, latent {latent}" in said
        assert f"Max cosine {pairs[0].similarity.max_cosine_large[latent]:.2f}" in said
        assert "Change in MSE −" in said
        page.mouse.click(at["x"], at["y"])
        settled(page, f"SAE-12, latent {latent}")
        assert page.url.endswith(f"#latent?sae=12&latent={latent}")
        assert tooltip.is_hidden()


def test_what_a_point_says_stays_inside_the_window(browser, study):
    folder, *_ = study
    with opened(browser, folder / "one" / "index.html") as page:
        bottom = page.locator("canvas").bounding_box()
        # A window that ends where the plot does: its lowest points have no room below.
        page.set_viewport_size({"width": 1280, "height": round(bottom["y"] + bottom["height"])})
        tooltip, seen = page.locator("#tooltip"), 0
        for latent in range(12):
            at = point_of(page, latent)
            if at is None:
                continue
            page.mouse.move(0, 0)
            page.mouse.move(at["x"], at["y"])
            tooltip.wait_for(state="visible")
            box, size = tooltip.bounding_box(), page.viewport_size
            assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
            assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"]
            seen += 1
        assert seen > 3


def test_filters_are_part_of_the_address_and_come_back(browser, study):
    folder, _, _, pairs = study
    cosine = pairs[0].similarity.max_cosine_large
    delta = np.where(pairs[0].insertions.n_active > 0, pairs[0].insertions.delta_mse, np.nan)
    with opened(browser, folder / "one" / "index.html") as page:
        page.get_by_label("Group").select_option("reconstruction")
        assert rows(page).count() == (cosine >= np.float32(THETA)).sum()
        page.get_by_label("Max cosine, at least").fill("0.87")
        expected = np.flatnonzero(cosine >= 0.87)
        assert 1 < len(expected) < 12
        assert rows(page).count() == len(expected)
        assert "group=reconstruction" in page.url
        assert "cosine_min=0.87" in page.url
        # Largest effect first; unknown ones are last either way.
        for _ in range(2):
            page.get_by_role("button", name="Change in MSE").click()
        shown = [int(row.split("\t")[0]) for row in rows(page).all_inner_texts()]
        assert shown == sorted(expected, key=lambda i: (np.isnan(delta[i]), -delta[i], i))
        # A link to the view shows the same; so does coming back from a latent.
        address = page.url
        rows(page).first.get_by_role("link").first.click()
        settled(page, "latent")
        page.go_back()
        settled(page, "Adding")
        assert page.url == address
        assert [int(row.split("\t")[0]) for row in rows(page).all_inner_texts()] == shown
        page.get_by_role("button", name="Clear").click()
        page.wait_for_function("document.querySelectorAll('main tbody tr').length === 12")


def test_filter_by_effect_and_rate(browser, study):
    folder, _, saes, pairs = study
    delta, active = pairs[0].insertions.delta_mse, pairs[0].insertions.n_active > 0
    rate = saes["12"].n_active / saes["12"].n_tokens
    address = "#effects?pair=6--12&effect_max=0&rate_min=20"
    with opened(browser, folder / "one" / "index.html", address) as page:
        assert rows(page).count() == (active & (delta <= 0) & (rate >= 0.2)).sum()
        page.locator("select[name=sign]").select_option("increases-2se")
        assert rows(page).count() == 0
        assert page.get_by_text("Nothing matches.").is_visible()


def test_look_up_a_latent(browser, study):
    folder, _, saes, pairs = study
    with opened(browser, folder / "parts" / "index.html") as page:
        search = page.get_by_role("search")
        search.get_by_label("SAE").select_option(label="SAE-60")
        search.get_by_label("Latent").fill("7")
        search.get_by_role("button").press("Enter")
        settled(page, "SAE-60, latent 7")
        passages = saes["60"]
        assert page.locator(".passages li").count() == 3
        assert f"({passages.n_active[7]} of 55)" in page.locator(".facts").first.inner_text()
        # In the two smaller SAEs, and what is nearest there.
        assert rows(page).count() == 2
        nearest = page.locator(".nearest").first.locator("li").first.inner_text()
        assert nearest.split()[0] == str(pairs[1].similarity.argmax_large[7])
        page.get_by_role("link", name="Next latent").click()
        settled(page, "SAE-60, latent 8")
        page.go_back()
        settled(page, "SAE-60, latent 7")


def test_a_published_sae_links_to_neuronpedia(browser, study):
    folder, *_ = study
    with opened(browser, folder / "one" / "index.html", "#latent?sae=6&latent=2") as page:
        link = page.get_by_role("link", name="This latent on Neuronpedia")
        address = "https://www.neuronpedia.org/toy/8-res%22%3E%3Cb%3E/2"
        assert link.get_attribute("href") == address
        assert link.get_attribute("rel") == "noreferrer"
        assert "(leaves this page for the network)" in page.locator("main").inner_text()
    with opened(browser, folder / "one" / "index.html", "#latent?sae=12&latent=2") as page:
        assert page.get_by_role("link", name="This latent on Neuronpedia").count() == 0


def test_passages_are_marked_shaded_and_escaped(browser, study):
    folder, parts, _, _ = study
    with opened(browser, folder / "one" / "index.html", "#latent?sae=12&latent=0") as page:
        for item, passage in zip(
            page.locator(".passages li").all(), parts["passages/1/0"][0], strict=True
        ):
            _, _, _, marked, words, active = passage
            texts = [parts["vocabulary"][word].replace("\n", "⏎") for word in words]
            texts[0] = texts[0].lstrip()
            assert item.locator(".passage").text_content() == "".join(texts)
            mark = item.locator("mark")
            assert mark.count() == 1
            assert mark.text_content() == texts[marked]
            strength = dict(zip(active[::2], active[1::2], strict=True))
            assert item.locator("span[title^=activation], mark").count() == len(strength)
            greatest = parts["latents/1"]["max"][0]
            shade = float(mark.evaluate("element => element.style.getPropertyValue('--a')"))
            assert shade == pytest.approx(strength[marked] / greatest, abs=0.01)
        # The text of the corpus made no element of its own.
        assert page.locator("main img, main script").count() == 0


def test_a_family_side_by_side(browser, study):
    folder, parts, _, _ = study
    split = next(i for i, n in enumerate(parts["pair/0"]["families"]["n_large"]) if n == 2)
    with opened(browser, folder / "one" / "index.html", "#families?pair=6--12") as page:
        page.get_by_label("Latents, smaller to larger SAE").select_option("split")
        page.get_by_role("link", name=str(split), exact=True).click()
        settled(page, f"Family {split} ")
        small = [i for i, f in enumerate(parts["pair/0"]["small"]["family"]) if f == split]
        large = [i for i, f in enumerate(parts["pair/0"]["large"]["family"]) if f == split]
        columns = page.locator(".cards > section")
        assert [columns.nth(i).locator("article").count() for i in (0, 1)] == [
            len(small),
            len(large),
        ]
        left, right = (columns.nth(i).bounding_box() for i in (0, 1))
        assert left["x"] + left["width"] <= right["x"]
        edges = parts["links/0"]["edges"]
        cosines = sorted(
            f"{c:.2f}" for s, c in zip(edges["small"], edges["cosine"], strict=True) if s in small
        )
        assert sorted(page.locator("svg .cosine").all_text_contents()) == cosines
        assert page.locator("svg a").count() == len(small) + len(large)
        # Those of the larger SAE have an effect each.
        assert [page.get_by_text("Added to SAE-6").count(), len(large)] == [2, 2]
        page.locator("svg a").last.click()
        settled(page, "SAE-12, latent")
        page.go_back()
        settled(page, f"Family {split} ")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("#latent?sae=12&latent=99", "SAE-12 has no latent 99; it has 12, from 0."),
        ("#latent?sae=7&latent=0", "There is no SAE 7 in this study."),
        ("#family?pair=6--12&family=x", "6--12 has no family x"),
        ("#effects?pair=" + quote("<img src=x onerror=hacked=1>"), "There is no pair <img"),
        ("#nowhere", "There is no view nowhere."),
        # Names that every object of JavaScript has.
        ("#constructor", "There is no view constructor."),
        ("#__proto__", "There is no view __proto__."),
        ("#toString?pair=6--12", "There is no view toString."),
    ],
)
def test_wrong_addresses_say_what_is_wrong(browser, study, address, said):
    with opened(browser, study[0] / "one" / "index.html", address) as page:
        assert said in page.get_by_role("alert").inner_text()


def test_a_lost_data_folder_is_named(browser, study, tmp_path):
    shutil.copy(study[0] / "parts" / "index.html", tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert 'keep the folder "data" beside index.html' in page.get_by_role("alert").inner_text()
    page.close()


def test_keyboard(browser, study):
    with opened(browser, study[0] / "one" / "index.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.get_by_role("link", name="Families").focus()
        page.keyboard.press("Enter")
        settled(page, "Families")
        assert page.evaluate("document.activeElement.tagName") == "H1"
        page.get_by_role("button", name="Dark").focus()
        page.keyboard.press("Space")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


VIEWS = ("", "#families", "#family?pair=6--12&family=1", "#latent?sae=12&latent=3", "#study")


@pytest.mark.parametrize(
    ("viewport", "theme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop", "phone"]
)
def test_views_are_accessible_and_fit_the_screen(browser, study, viewport, theme):
    from axe_playwright_python.sync_playwright import Axe

    index = study[0] / "one" / "index.html"
    with opened(browser, index, viewport=viewport, theme=theme) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        for address in VIEWS:
            go(page, f"{index.as_uri()}{address}")
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            found = Axe().run(page).response["violations"]
            serious = [v for v in found if v["impact"] in ("serious", "critical")]
            assert not serious, [(v["id"], v["nodes"][0]["html"]) for v in serious]


def test_ten_thousand_families(browser, tmp_path):
    """Every latent of the smaller SAE has one like it in the larger."""

    def one_to_one(small, large):
        cosine = np.full(large, 0.2, dtype=np.float32)
        cosine[:small] = 0.9
        nearest = np.arange(large, dtype=np.int32) % small
        n = np.arange(small, dtype=np.int32)
        short = cosine[:small]
        return Similarity(cosine, nearest, n, short, n, n, short, floor=0.3)

    parts, *_ = made_up_study(tmp_path, sizes=(10_000, 12_000), families=one_to_one, n_passages=1)
    write_explorer(parts, tmp_path / "large", inline_mb=1)
    assert (tmp_path / "large" / "data").is_dir()
    with opened(browser, tmp_path / "large" / "index.html") as page:
        assert "12,000 latents of 12,000" in page.locator("p[role=status]").inner_text()
        at = point_of(page, 4321)
        assert at is not None
        go(page, re.sub("#.*|$", "#families", page.url, count=1))
        assert "of 10,000" in page.locator("span[role=status]").inner_text()
        go(page, re.sub("#.*|$", "#family?family=9999", page.url, count=1))
        assert page.locator("svg .cosine").text_content() == "0.90"

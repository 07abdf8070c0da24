"""The atlas: what it draws is what the statistics hold, and the page is complete in itself."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import call, refuse, succeed
from pages import CHROMIUM, Elements, assert_complete_in_itself, seen_in_browser

from stochdeconv.atlas import maps, page, plots, writing
from stochdeconv.errors import ExistingOutputError, ModelError
from stochdeconv.methods.generate import generate
from stochdeconv.networks.image_model import load_model
from stochdeconv.sampling.samplers import LOCAL, SAMPLERS
from stochdeconv.statistics.exemplars import Exemplars
from stochdeconv.statistics.file import load_statistics
from stochdeconv.statistics.layout import layout_maps
from stochdeconv.statistics.pooling import pooled_map
from stochdeconv.statistics.regions import Regions

# A name that breaks a page which does not escape it, and one too long for a phone.
AWKWARD = '<script>alert("x")</script> & $x$'
LONG = "a_photograph_with_a_name_without_any_place_to_break_it_" * 3
QUICK = ("--n-steps", 2, "--quiet")


@pytest.fixture(scope="module")
def statistics(made):
    return load_statistics(made / "church.h5")


@pytest.fixture(scope="module")
def network(made):
    return load_model(made / "tiny.keras")


@pytest.fixture(scope="module")
def awkward(statistics):
    names = (AWKWARD, LONG, *statistics.image_names[2:])
    return replace(
        statistics,
        class_name=AWKWARD,
        model_name=AWKWARD,
        image_names=names,
        skipped=((AWKWARD, LONG),),
        settings={AWKWARD: AWKWARD, LONG: LONG},
    )


@pytest.fixture(scope="module")
def pages(awkward, network, tmp_path_factory):
    """The page without the network, and with it."""
    folder = tmp_path_factory.mktemp("atlas")
    # The network would not find a layer of another name.
    layers = {AWKWARD if name == "conv1" else name: layer for name, layer in awkward.items()}
    written = [
        writing.write_atlas(replace(awkward, layers=layers), folder / "maps.html"),
        writing.write_atlas(awkward, folder / "images.html", model=network, n_images=2, n_steps=2),
    ]
    return [path.read_text() for path in written]


def shuffled(statistics, order):
    """The same statistics with their rows in another order."""
    layers = {
        name: layer.with_fields(
            **{
                key: None if getattr(layer, key) is None else getattr(layer, key)[order]
                for key in ("means", "log_stds", "scores", "facet_means")
            }
        )
        for name, layer in statistics.items()
    }
    return replace(statistics, layers=layers, image_names=tuple(statistics.image_names[row] for row in order))


def test_a_component_of_one_direction_is_drawn_whole():
    places = np.array([[3.0, -1.0], [0.0, 2.0]])
    direction = np.array([0.1, -0.8, 0.0, 0.5])
    pattern = maps.leading_pattern(places[:, :, None] * direction)
    assert pattern.share == pytest.approx(1.0)
    # Channel 1 leads and counts as positive, so the places change their sign with it.
    assert pattern.channels == ((1, True), (3, False), (0, False))
    np.testing.assert_allclose(pattern.places, -places * np.linalg.norm(direction), atol=1e-12)


def test_what_a_direction_leaves_out_is_said():
    first, second = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    component = 2.0 * first[:, :, None] * [1, 0, 0] + 1.0 * second[:, :, None] * [0, 0, 1]
    pattern = maps.leading_pattern(component)
    assert pattern.share == pytest.approx(4 / 5)
    np.testing.assert_allclose(pattern.places, [[2.0, 0.0]])


def test_red_is_more_and_blue_is_less():
    drawn = maps.draw_pattern(maps.Pattern(np.array([[1.0, -1.0, 0.0]]), 1.0, ()))
    up, down, nothing = drawn[0, 10], drawn[0, drawn.shape[1] // 2], drawn[0, -10]
    assert up[0] > 2 * up[2]
    assert down[2] > 2 * down[0]
    np.testing.assert_allclose(nothing, 247 / 255, atol=0.005)  # the middle of ColorBrewer's RdBu


def test_layouts_are_the_mean_plus_their_components(statistics):
    layer = statistics["conv2"]
    scores = layer.scores[:3]
    layouts = layout_maps(layer, scores)
    again = (layouts - layer.layout_mean).reshape(3, -1) @ layer.components.T
    np.testing.assert_allclose(again, scores, atol=2e-2 * np.abs(scores).max())
    np.testing.assert_allclose(layout_maps(layer, np.zeros((1, layer.n_components)))[0], layer.layout_mean)


def test_regions_lie_where_their_layer_shows_them():
    facets = Regions("deep", np.zeros(2, np.float32), np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 0.1)
    layout = np.zeros((1, 2, 2, 2), np.float32)
    layout[0, :, 0, 1] = layout[0, :, 1, 0] = 1.0  # left as the second centroid, right as the first
    (regions,) = maps.regions_of(facets, layout, (20, 30))
    np.testing.assert_array_equal(regions[:, :15], 1)
    np.testing.assert_array_equal(regions[:, 15:], 0)
    assert [label[0] for label in maps.place_labels(regions)] == [0, 1]
    for region, x, y in maps.place_labels(regions):
        assert regions[int(y * 20), int(x * 30)] == region
    drawn = maps.draw_regions(np.full((20, 30, 3), 0.5, np.float32), regions)
    color = np.array([int(maps.REGION_COLORS[1][i : i + 2], 16) for i in (1, 3, 5)]) / 255
    np.testing.assert_allclose(drawn[5, 3], 0.4 * 0.5 + 0.6 * color, atol=1e-6)
    np.testing.assert_allclose(drawn[5, 14], 1.0)  # the line between them


def test_a_number_stands_in_the_largest_piece_and_in_none_too_small():
    regions = np.zeros((10, 20), int)
    regions[0, 0] = 1
    regions[:, 6:8] = 2
    regions[3:7, 15:19] = 2  # smaller than the stripe, and far from it
    labels = {region: (x, y) for region, x, y in maps.place_labels(regions)}
    assert set(labels) == {0, 2}
    assert 6 / 20 < labels[2][0] < 8 / 20


def test_texture_spectrum_is_that_of_the_covariance(statistics):
    layer = statistics["conv1"].with_fields(within_covariance=np.diag([1.0, 4.0, 0.0, 2.0]).astype(np.float32))
    np.testing.assert_allclose(plots.within_variances(layer), [4, 2, 1, 0])
    row = page._layer_row(layer, "#000000")
    assert row["directions"] == pytest.approx(49 / 21)


def test_photographs_at_the_ends_are_named_whatever_their_order(statistics):
    scores = statistics["conv2"].scores[:, 1]
    low, high = (statistics.image_names[row] for row in (scores.argmin(), scores.argmax()))
    drawn = page._layer_components(statistics["conv2"], statistics)
    assert (drawn["tiles"][1]["low"], drawn["tiles"][1]["high"]) == (low, high)
    other = shuffled(statistics, np.random.default_rng(0).permutation(statistics.n_rows))
    assert page._layer_components(other["conv2"], other) == drawn
    assert page._color_components(other) == page._color_components(statistics)
    # Names that are torn from their rows are noticed.
    torn = replace(other, image_names=statistics.image_names)
    assert page._layer_components(torn["conv2"], torn) != drawn


@pytest.mark.parametrize("kind", [0, 1], ids=["maps", "images"])
def test_page_is_complete_in_itself_and_names_are_text(pages, kind):
    page = pages[kind]
    assert_complete_in_itself(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(") > 5
    pictures = Elements(page).of("img")
    assert all(picture["src"].startswith("data:image/jpeg;base64,") and picture["alt"] for picture in pictures)
    plots = Elements(page).of("svg")
    assert len(plots) == 7
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)


def test_page_says_what_went_in_and_where_it_comes_from(pages, awkward):
    for words in (
        awkward.weights_hash,
        awkward.hash(),
        awkward.image_names[-1],
        "20 photographs, 1 skipped",
        LOCAL,
        *SAMPLERS,
    ):
        assert words in pages[0]


def test_images_take_the_place_of_maps(pages):
    maps, images = (Elements(page) for page in pages)
    walked = [
        picture["alt"] for picture in images.of("img") if " at " in picture["alt"] and "colour" not in picture["alt"]
    ]
    # Two layers, two components each, at -2, 0 and 2 standard deviations.
    assert walked == [
        f"component {name}:{index} at {place}"
        for name in ("conv2", "conv1")
        for index in (0, 1)
        for place in ("−2 sd", "mean", "+2 sd")
    ]
    assert not [picture for picture in maps.of("img") if picture["alt"] in walked]
    assert "Made without the network" in pages[0]
    assert "Made without the network" not in pages[1]


def test_pictures_are_those_of_generate_and_regions_those_of_the_network(statistics, network):
    pictures, news = page.NetworkPictures(), []
    maker = writing._Maker(
        model=network, statistics=statistics, n_images=2, n_steps=2, seed=5, progress=lambda *step: news.append(step)
    )
    maker.fill(pictures)
    assert next(iter(pictures.samples)) == LOCAL and set(pictures.samples) == {LOCAL, *SAMPLERS}
    made = generate(network, statistics, sampler="chain", n_images=2, n_steps=2, seed=5).images
    np.testing.assert_array_equal(pictures.samples["chain"], made)
    layer = statistics.facets.layer
    maps = pooled_map(network.activations(made, [layer])[layer], statistics[layer].layout_shape[:2])
    np.testing.assert_allclose(pictures.layouts["chain"], maps, rtol=1e-5)
    walk = pictures.walks[1]
    along = generate(network, statistics, component=f"{walk.layer}:{walk.component}", n_images=3, n_steps=2, seed=5)
    np.testing.assert_array_equal(walk.images, along.images)
    assert [deviation for deviation, _ in walk.deviations] == [-2.0, 0.0, 2.0]
    counts = [(n_done, total) for n_done, total, _ in news]
    assert counts == sorted(counts)
    assert counts[-1] == (2 * ((1 + len(SAMPLERS)) * 2 + 4 * 3),) * 2


def test_ctrl_c_leaves_a_page_of_what_was_made(statistics, network, tmp_path):
    def stop(n_done, total, message):
        if message.startswith("samples by joint"):
            raise KeyboardInterrupt

    with pytest.raises(writing.AtlasInterrupted):
        writing.write_atlas(statistics, tmp_path / "a.html", model=network, n_images=1, n_steps=2, progress=stop)
    page = (tmp_path / "a.html").read_text()
    assert_complete_in_itself(page)
    assert "Stopped before all pictures were made" in page
    # What came before has images; it and what was to come after have colour layouts.
    strips = re.findall(r"<h4>(\w+)</h4><span class=\"facts\">([^<]*)", page)
    assert [name for name, words in strips if words.endswith("colour layouts")] == ["joint", "independent"]


@pytest.mark.parametrize("case", ["no class", "one row", "no regions", "nothing varies", "no maps"])
def test_page_of_little(statistics, network, tmp_path, case):
    if case == "no class":
        little = replace(statistics, class_name=None, wnid=None, class_index=None, logits=None)
    elif case == "one row":
        little = shuffled(statistics, np.array([0]))
    elif case == "no regions":
        layers = {name: layer.with_fields(facet_means=None) for name, layer in statistics.items()}
        little = replace(statistics, layers=layers).with_fields(facets=None)
    elif case == "no maps":
        little = replace(statistics, layers={"input": statistics["input"]}).with_fields(facets=None)
    else:
        still = {
            name: layer.with_fields(
                scores=layer.scores[:, :0], components=layer.components[:0], explained_variance=np.zeros(0)
            )
            for name, layer in statistics.items()
        }
        little = replace(statistics, layers=still)
    model = None if case in ("nothing varies", "no regions") else network
    page = writing.write_atlas(little, tmp_path / "a.html", model=model, n_images=1, n_steps=1).read_text()
    assert_complete_in_itself(page)
    assert ("<h2>Regions" in page) == (case in ("no class", "nothing varies"))
    why = {
        "one row": "one row has no spread",
        "no maps": "no layer has positions",
        "nothing varies": "Made without the network",
    }
    assert why.get(case, "") in page
    assert ("Made without" in page) == (case in ("nothing varies", "no regions"))


def test_page_says_that_photographs_are_in_the_file(statistics):
    held = statistics.with_fields(exemplars=Exemplars(np.zeros((3, 40, 48, 3), np.uint8), np.arange(3)))
    told = [page.render_atlas(of, None, seed=0, n_steps=1) for of in (statistics, held)]
    assert ["The photographs are not in the file" in text for text in told] == [True, False]
    assert "3 of the photographs are in the file" in told[1]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found to open the page in")
@pytest.mark.parametrize("width", [390, 1400])
def test_page_opens_in_a_browser_without_overflow(pages, width, tmp_path):
    seen = seen_in_browser(pages[1], tmp_path, width=width)
    assert (seen["broken"], seen["flat"]) == (0, 0)
    assert seen["pictures"] == len(Elements(pages[1]).of("img"))


def test_command_takes_the_network_the_file_names(made, here):
    result = succeed("inspect", made / "church.h5", "--html", "new/atlas.html", *QUICK)
    assert result.stdout == "new/atlas.html\n"
    assert result.stderr == ""
    page = (here / "new/atlas.html").read_text()
    assert "Made without the network" not in page
    assert page.count("reached ") > 5


def test_command_makes_do_without_a_network(made, here, statistics):
    from stochdeconv.statistics.file import save_statistics

    for source, why in (
        ("vgg16", "'vgg16' is not on this machine"),
        (str(made / "other.keras"), "but 'other' has weights"),
    ):
        save_statistics(replace(statistics, model_source=source), here / "moved.h5", overwrite=True)
        result = succeed("inspect", "moved.h5", "--html", "atlas.html", "--overwrite")
        assert result.stderr.startswith("warning: ")
        assert why in result.stderr
        assert result.stderr.count("\n") == 1
        assert "Made without the network" in (here / "atlas.html").read_text()
    page = (here / "atlas.html").read_text()
    assert "already exists" in refuse("inspect", "moved.h5", "--html", "atlas.html")
    assert (here / "atlas.html").read_text() == page
    succeed("inspect", "moved.h5", "--html", "atlas.html", "--overwrite", "--seed", 1)
    assert (here / "atlas.html").read_text() != page
    result = succeed("inspect", "moved.h5", "--html", "atlas.html", "--overwrite", "-m", made / "tiny.keras", *QUICK)
    assert result.stderr == ""
    assert "reached " in (here / "atlas.html").read_text()


def test_command_refuses_another_network(made, here):
    message = refuse("inspect", made / "church.h5", "--html", "atlas.html", "-m", made / "other.keras")
    assert "were collected with 'tiny'" in message
    assert not (here / "atlas.html").exists()


def test_command_refuses_what_contradicts_itself(made, here):
    assert "--html" in refuse("inspect", made / "church.h5", "--json", "--html", "a.html", code=2)
    assert "--html" in refuse("inspect", made / "church.h5", "-m", made / "tiny.keras", code=2)
    assert call("inspect", made / "church.h5", "--html", "a.html", "--n-steps", 0).exit_code == 2


def test_library_refuses_early(statistics, made, tmp_path):
    with pytest.raises(ExistingOutputError, match="is a folder; the atlas is a file"):
        writing.write_atlas(statistics, tmp_path)
    with pytest.raises(ModelError, match="were collected with 'tiny'"):
        writing.write_atlas(statistics, tmp_path / "a.html", model=load_model(made / "other.keras"))
    assert list(tmp_path.iterdir()) == []


def test_command_does_not_replace_the_statistics_by_their_page(made, here):
    shutil.copy(made / "church.h5", here / "church.h5")
    before = (here / "church.h5").read_bytes()
    assert "statistics itself" in refuse("inspect", "church.h5", "--html", "./church.h5", "--overwrite", code=2)
    assert (here / "church.h5").read_bytes() == before

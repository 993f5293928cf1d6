"""What TensorBoard is given beside scalars, read back from the event files: layout, settings, pictures."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from carbonpilot.agents import tensorboard_images
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.tensorboard_hparams import FIRST, METRICS, flat_settings
from carbonpilot.agents.tensorboard_images import TAG, EpisodeImages
from carbonpilot.agents.tensorboard_layout import CHARTS, layout
from carbonpilot.agents.tensorboard_log import ResumableTensorBoard
from carbonpilot.agents.training_settings import SETTINGS

STEPS = 2048
ROLLOUT = 256
LAYOUT = "custom_scalars__config__"


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def finished(request, lab, site, tmp_path_factory):
    out = tmp_path_factory.mktemp("board") / "run"
    lab.train(site, out, STEPS, request.param, seed=3)
    return request.param, out


def events(out):
    return EventAccumulator(str(out / "tb"), size_guidance={"tensors": 0, "images": 0}).Reload()


def written_layout(out):
    [event] = events(out).Tensors(LAYOUT)
    return layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])


def hparams(out, tag):
    content = events(out).SummaryMetadata(tag).plugin_data.content
    parse = {
        hparams_metadata.EXPERIMENT_TAG: hparams_metadata.parse_experiment_plugin_data,
        hparams_metadata.SESSION_START_INFO_TAG: hparams_metadata.parse_session_start_info_plugin_data,
        hparams_metadata.SESSION_END_INFO_TAG: hparams_metadata.parse_session_end_info_plugin_data,
    }[tag]
    return parse(content)


def test_every_tag_of_the_layout_is_one_that_the_run_wrote(finished):
    _, out = finished
    scalars = events(out).Tags()["scalars"]
    shown = [tag for c in written_layout(out).category for chart in c.chart for tag in chart.multiline.tag]
    assert len(shown) > 15
    for pattern in shown:
        matching = [name for name in scalars if re.match(pattern, name)]  # as TensorBoard looks them up
        assert len(matching) == 1, f"{pattern} shows {matching}"


def test_the_layout_has_what_one_watches(finished):
    _, out = finished
    charts = {
        (c.title, chart.title): chart.multiline.tag for c in written_layout(out).category for chart in c.chart
    }
    titles = {category for category, _ in charts}
    assert {"Carbon", "Objective (SLO)", "Hindsight", "Placements", "Training itself"} <= titles
    placements = charts["Placements", "share of the requests"]
    assert len(placements) == len(RunDir(out).scenario.placements)
    assert list(charts["Training itself", "energy of this machine, Wh"]) == [r"emissions/energy_wh$"]


def test_everything_that_a_teacher_tells_has_a_chart_of_its_own_category(lab, site, tmp_path):
    lessons = {"tapes": 2, "every": 20, "lookahead": 0, "explore": 0.0, "learning_rate": 0.001, "epochs": 1}
    price = {"source": "reward", "factor": 1.0, "lowest_mg": 0.0, "budget_gain": 0.0, "target_share": 0.5}
    teacher = {
        "oracle": "oracle-per-request",
        "miss_price": {**price, "adapt": 0.1},
        "fit": {"batch_size": 16, "value_coef": 0.5, "max_grad_norm": 1.0, "temperature": 0.3},
        "stages": [
            {"kind": "clone", "loss": "regress", **lessons},
            {"kind": "dagger", "loss": "cost", "rounds": 2, "kept_rounds": 1, "follow": "learner", **lessons},
        ],
        "held_back": 2,
        "actor_frozen_steps": 0,
    }
    lab.train(site, tmp_path / "run", ROLLOUT, settings={"teacher": teacher})
    told = {tag for tag in events(tmp_path / "run").Tags()["scalars"] if tag.startswith("teach/")}
    charts = {
        c.title: [tag for chart in c.chart for tag in chart.multiline.tag]
        for c in written_layout(tmp_path / "run").category
    }
    assert len(told) > 8
    assert sorted(charts["Teaching"]) == sorted(f"{re.escape(tag)}$" for tag in told)
    mixed = [
        tag
        for title, tags in charts.items()
        if title != "Teaching"
        for tag in tags
        if tag.startswith("teach")
    ]
    assert not mixed
    rounds = [event.step for event in events(tmp_path / "run").Scalars("teach/loss")]
    assert rounds == [1, 2, 3], "the axis is the number of the round"


def test_charts_without_tags_are_left_out():
    tags = {"carbon/mg_per_request", "slo/miss_rate"}
    assert layout(tags) == {
        "Carbon": {"CO2, mg per request": ["Multiline", [r"carbon/mg_per_request$"]]},
        "Objective (SLO)": {"share of the requests that miss it": ["Multiline", [r"slo/miss_rate$"]]},
    }
    constrained = layout({*tags, "constraint/multiplier", "constraint/target"})["Objective (SLO)"]
    assert len(constrained) == 2
    assert layout(()) == {}


def test_a_tag_is_shown_alone_though_another_begins_like_it():
    [chart] = layout({"placement/edge-b0", "placement/edge-b0.fast"})["Placements"].values()
    for pattern in chart[1]:
        assert sum(bool(re.match(pattern, n)) for n in ("placement/edge-b0", "placement/edge-b0.fast")) == 1


def test_every_chart_is_different():
    assert len({(chart.category, chart.title) for chart in CHARTS}) == len(CHARTS)


def test_settings_are_readable_and_complete(finished):
    algo, out = finished
    row = hparams(out, hparams_metadata.SESSION_START_INFO_TAG).hparams
    run = RunDir(out)
    assert row["algorithm"].string_value == algo
    assert row["seed"].number_value == 3
    assert row["steps"].number_value == STEPS
    assert row["scenario"].string_value == run.scenario.name
    for key, value in flat_settings(run.config["settings"]).items():
        found = row[key].string_value if isinstance(value, str) else row[key].number_value
        assert found == value, key
    assert hparams(out, hparams_metadata.SESSION_END_INFO_TAG).status == 1  # success


def test_columns_are_those_of_every_algorithm(finished):
    """TensorBoard takes them from one run; a folder of several algorithms must show all."""
    _, out = finished
    table = hparams(out, hparams_metadata.EXPERIMENT_TAG)
    columns = {info.name for info in table.hparam_infos}
    for kind in SETTINGS.values():
        nested = {name for name in kind.model_fields if name in ("constraint",)}
        assert kind.model_fields.keys() - nested <= columns
    assert {info.name for info in table.hparam_infos if info.differs} == FIRST
    metrics = {info.name.tag for info in table.metric_infos}
    assert metrics == set(METRICS)
    assert metrics <= set(events(out).Tags()["scalars"])


def test_pictures_decode_and_show_the_episode(finished):
    _, out = finished
    pictures = events(out).Images(TAG)
    assert pictures[-1].step == STEPS, "the last evaluation is drawn in any case"
    image = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
    assert image.shape == (pictures[-1].height, pictures[-1].width, 3)
    assert (image == 255).all(axis=2).mean() > 0.5, "a white page"
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20, "with something on it"


def test_pictures_wait_until_they_cost_next_to_nothing(lab, site, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard_images, "FIRST_S", 1e9)
    lab.train(site, tmp_path / "rare", 4 * ROLLOUT, evaluate_every=ROLLOUT)
    monkeypatch.setattr(tensorboard_images, "FIRST_S", -1e9)
    lab.train(site, tmp_path / "often", 4 * ROLLOUT, evaluate_every=ROLLOUT)
    rare, often = (events(tmp_path / name).Images(TAG) for name in ("rare", "often"))
    assert [picture.step for picture in rare] == [4 * ROLLOUT]
    assert [picture.step for picture in often][:1] == [ROLLOUT]
    assert RunDir(tmp_path / "rare").progress() == RunDir(tmp_path / "often").progress()


def test_an_offer_is_taken_within_the_share_of_time_only(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(tensorboard_images.time, "perf_counter", lambda: now[0])
    images = EpisodeImages.__new__(EpisodeImages)
    images._share, images._started_s, images._expected_s, images.spent_s = 0.1, 0.0, 2.0, 0.0
    drawn = []

    def draw(record, step):
        drawn.append(step)
        images.spent_s += 2.0

    monkeypatch.setattr(images, "draw", draw)
    for step in range(100):
        now[0] = float(step)
        images.offer(None, step)
    assert drawn == [20, 40, 60, 80]


def test_a_resumed_run_keeps_layout_and_settings(lab, site, tmp_path):
    out = tmp_path / "run"
    lab.train(site, out, 2 * ROLLOUT)
    first = written_layout(out)
    lab.train(site, out, 4 * ROLLOUT, resume=True)
    found = events(out)
    layouts = [layout_pb2.Layout.FromString(e.tensor_proto.string_val[0]) for e in found.Tensors(LAYOUT)]
    assert layouts == [first, first]
    assert hparams(out, hparams_metadata.SESSION_START_INFO_TAG).hparams["seed"].number_value == 5
    assert [picture.step for picture in found.Images(TAG)] == [2 * ROLLOUT, 4 * ROLLOUT]


def test_a_run_that_ends_early_has_a_layout(tmp_path):
    log = ResumableTensorBoard(tmp_path / "tb", 0)
    log.write({"slo/miss_rate": 0.1}, {"slo/miss_rate": ()}, 10)
    log.close()
    (category,) = written_layout(tmp_path).category
    assert category.title == "Objective (SLO)"


def test_the_layout_waits_for_the_footprint_but_not_for_ever(tmp_path):
    log = ResumableTensorBoard(tmp_path / "tb", 0)

    def write(tag, step):
        log.write({tag: 0.5}, {tag: ()}, step)

    for step in (10, 20, 30):
        write("eval/carbon_mg_per_request", step)
    write("carbon/mg_per_request", 40)  # long episodes end after several evaluations only
    write("emissions/energy_wh", 50)
    log.close()
    (carbon,) = written_layout(tmp_path).category
    (chart,) = carbon.chart
    assert list(chart.multiline.tag) == ["carbon/mg_per_request$", "eval/carbon_mg_per_request$"]


def test_the_layout_is_there_before_the_run_ends(tmp_path):
    log = ResumableTensorBoard(tmp_path / "tb", 0)
    for step, tag in enumerate(
        ("carbon/mg_per_request", "eval/carbon_mg_per_request", "emissions/energy_wh")
    ):
        assert events(tmp_path).Tags()["tensors"] == []
        log.write({tag: 0.5}, {tag: ()}, step)
    log.writer.flush()
    assert [c.title for c in written_layout(tmp_path).category] == ["Carbon", "Training itself"]
    log.close()
    assert len(events(tmp_path).Tensors(LAYOUT)) == 1, "written once"


def test_lists_and_nothing_are_text():
    settings = {"hidden": [64, 32], "constraint": {"kp": 0.5, "extra": None}, "gamma": 0.9}
    assert flat_settings(settings) == {
        "hidden": "64 32",
        "constraint.kp": 0.5,
        "constraint.extra": "none",
        "gamma": 0.9,
    }

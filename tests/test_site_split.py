"""Site files and deployments of split placements: what belongs together, paths that move, nodes that are not there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from site_builder import site_of
from split_site import SPLIT_PLACE

from carbonpilot.envs.absence import without_nodes
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.scenario import scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated
from carbonpilot.real.calibrate.deployment import read_deployment, template
from carbonpilot.real.calibrate.drafts import draft_site
from carbonpilot.real.executors.make import frames_jpeg_quality, make_executors
from carbonpilot.real.executors.split import SplitExecutor
from carbonpilot.real.site_file import Deployment

WHOLE = {"model": "b0", "encoding": "jpeg", "jpeg_quality": 80}
TAIL = {"model": "b0-cut-004-tail", "encoding": "activation", "segments": "segments", "cut": "cut-004"}


@pytest.fixture
def scenario(tiny, tiny_scenario):
    return tiny_scenario(placements=[*tiny["placements"], SPLIT_PLACE])


def test_a_split_placement_has_its_executor_and_shares_connection_and_device(scenario):
    site = site_of(scenario, remote={"edge-b0": WHOLE, "edge-cut": TAIL})
    executors = make_executors(site, Path("."))
    split = executors["edge-cut"]
    assert isinstance(split, SplitExecutor)
    assert split._channel is executors["edge-b0"]._channel
    assert split._device is executors["local"]._device
    assert frames_jpeg_quality(site) == 80
    asyncio.run(split.close())  # harmless before the start


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (
            {**TAIL, "cut": "cut-005"},
            "scenario splits this placement at 'cut-004', the deployment at 'cut-005'",
        ),
        (WHOLE, "expected encoding activation, segments and cut, got encoding jpeg"),
        ({**TAIL, "cut": None}, "segments and cut are needed with encoding activation"),
        ({**TAIL, "segments": None}, "segments and cut are needed with encoding activation"),
        ({**TAIL, "encoding": "uint8"}, "segments and cut are needed with encoding activation"),
        ({**TAIL, "jpeg_quality": 80}, "jpeg_quality is needed with encoding jpeg and meaningless otherwise"),
        ({**TAIL, "encoding": "activations"}, "deployment.remote.edge-cut.encoding"),
    ],
)
def test_a_deployment_that_does_not_fit_its_scenario_is_refused(scenario, tail, said):
    tail = {key: value for key, value in tail.items() if value is not None}
    with pytest.raises(ScenarioError, match=said):
        site_of(scenario, remote={"edge-b0": WHOLE, "edge-cut": tail})


def test_a_tail_for_a_whole_placement_is_refused(scenario):
    with pytest.raises(ScenarioError, match="the scenario's placement is a whole model"):
        site_of(scenario, remote={"edge-b0": TAIL, "edge-cut": TAIL})


def test_without_its_node_a_split_placement_goes_and_the_rest_stays(tiny, tiny_scenario):
    far = {**tiny["nodes"]["edge"]}
    scenario = tiny_scenario(
        nodes={"far": far},
        placements=[*tiny["placements"], {**SPLIT_PLACE, "node": "far", "name": "far-cut"}],
    )
    gone = validated(Scenario, without_nodes(scenario_dict(scenario), ["far"]), "gone")
    site = site_of(gone, remote={"edge-b0": WHOLE}, servers={"edge": {"grpc": "127.0.0.1:1"}})
    assert list(make_executors(site, Path("."))) == ["local", "edge-b0"]


def deployment(folder: Path, tail: dict, scenario: Scenario) -> Path:
    (folder / "b0.onnx").write_bytes(b"not really a model")
    site = site_of(scenario, remote={"edge-b0": WHOLE, "edge-cut": TAIL}).deployment
    content = site.model_dump(mode="json", exclude_none=True)
    content["local"] = {"file": "b0.onnx", "providers": ["cpu"], "intra_op_threads": 1}
    content["remote"]["edge-cut"] = tail
    file = folder / "deploy.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_segments_path_moves_with_the_site_file(tmp_path, scenario):
    (tmp_path / "here").mkdir()
    file = deployment(tmp_path / "here", TAIL, scenario)
    moved = read_deployment(file, tmp_path / "there")
    assert moved.remote["edge-cut"].segments == "../here/segments"
    assert draft_site(scenario, moved, "draft").deployment.remote["edge-cut"].cut == "cut-004"


def test_a_broken_deployment_names_the_key(tmp_path, scenario):
    file = deployment(tmp_path, {**TAIL, "segment": "segments"}, scenario)
    with pytest.raises(ScenarioError, match=r"remote\.edge-cut\.segment"):
        read_deployment(file, tmp_path)
    file = deployment(tmp_path, {**TAIL, "segments": 3}, scenario)
    with pytest.raises(InputError, match=r"remote\.edge-cut\.segments"):
        read_deployment(file, tmp_path)


def test_the_template_of_a_split_site_is_a_deployment(tmp_path, scenario):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "segformer-b0.onnx").write_bytes(b"not really a model")
    text = template(scenario)
    (tmp_path / "deploy.yaml").write_text(text)
    found = read_deployment(tmp_path / "deploy.yaml", tmp_path)
    assert isinstance(found, Deployment)
    assert found.remote["edge-cut"].encoding == "activation"
    draft_site(scenario, found, "template")

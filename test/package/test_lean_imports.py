# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a process does not need it does not load: torch and its kin cost seconds and hundreds of megabytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vla_driver.model.device import gpu_driver_is_here

#: Loading any of these takes longer than all of this package.
HEAVY = ('torch', 'transformers', 'scipy', 'safetensors', 'peft', 'tokenizers', 'huggingface_hub', 'av', 'PIL')
#: What belongs to bags and simulator alone.
OTHERS = ('rosbags', 'mcap', 'lz4', 'zstandard', 'libsumo', 'moderngl', 'shapely', 'tqdm', 'lark')
MODELS = Path(__file__).parents[2] / 'models'
SAMPLE_BAG = Path(__file__).parents[2] / 'data' / 'sample_bag'

_TICK = """
import numpy as np
import rclpy
from rclpy.parameter import Parameter
from vla_driver.geometry.rig import load_rig
from vla_driver.ros.nodes.planner import PlannerNode
from vla_driver.types import CameraFrame, EgoState, Navigation, Observation, TurnCommand

class Pictures:
    # What a set of pictures is to the tick, decoded already.
    epoch, stamp_s, stamp_ns, arrival_s, missing, overtaken = 1, 5.0, 5_000_000_000, None, (), False
    ego = EgoState(5.0, 0.0, 0.0, 0.0, 4.0)

    def __init__(self, rig):
        self.rig = rig

    def observe(self):
        frames = {c.name: CameraFrame(c.name, 5.0, np.zeros((c.height, c.width, 3), np.uint8)) for c in self.rig}
        navigation = Navigation(TurnCommand.FOLLOW, 0.0, np.array([[30.0, 0.0], [60.0, 0.0]]))
        return Observation(5.0, frames, self.rig, self.ego, navigation)

rclpy.init()
node = PlannerNode(parameter_overrides=[Parameter('policy', value='constant-velocity'), Parameter('threads', value=1)])
node.trigger_configure()
result = node._planner.answer(Pictures(load_rig(node.parameters.rig)))
assert result.outcome == 'policy', result
node.destroy_node()
rclpy.try_shutdown()
"""


def _loaded(code: str, *names: str) -> list[str]:
    """Run code in a process of its own; return which of these libraries it has loaded at its end."""
    code = f'{code}\nimport json, sys\nprint(json.dumps([name for name in {names!r} if sys.modules.get(name)]))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(loaded, list)
    return loaded


def test_the_check_sees_what_is_loaded() -> None:
    assert _loaded('import vla_driver.model.tokens, PIL', *HEAVY) == ['torch', 'PIL']


@pytest.mark.parametrize(
    'code',
    [
        'from vla_driver.cli import main\ntry:\n    main(["--help"])\nexcept SystemExit:\n    pass',
        'from vla_driver.policies.registry import make_policy\nassert make_policy("constant-velocity").name',
        f'from vla_driver.model.checkpoint import inspect_checkpoint\nfrom pathlib import Path\n'
        f'found = inspect_checkpoint(Path({str(MODELS / "nano")!r}))\n'
        'assert found.kind == found.config["model_type"] == "vla_driver" and found.config["memory_config"]["ages_s"]',
        'from vla_driver.policies.registry import require_checkpoint\nassert require_checkpoint("model", None)',
        'import vla_driver.policies.loading, vla_driver.policies.stopwatch, vla_driver.policies.pruning_settings',
        'from vla_driver.model.native.seeing import remembering\n'
        'from vla_driver.model.pruning import budget, choosing, registry',
        'from vla_driver.model.precision import precision\nassert precision("cpu") in ("float32", "bfloat16")',
        'from vla_driver.policies.pruning_settings import PruningSettings\nPruningSettings("recon").budget()',
    ],
)
def test_what_only_names_things_loads_little(code: str) -> None:
    assert _loaded(code, *HEAVY, *OTHERS, 'cv2') == []


@pytest.mark.parametrize(
    'command',
    [
        'demo',
        'doctor',
        'drive_ros',
        'inspect',
        'replay',
        'evaluate.latency',
        'evaluate.open_loop',
        'evaluate.tick_time',
    ],
)
def test_a_command_loads_no_model_library_before_it_runs(command: str) -> None:
    assert _loaded(f'import vla_driver.commands.{command}', *HEAVY) == []


@pytest.mark.skipif(gpu_driver_is_here(), reason='a driver of GPUs is here: torch is asked what it sees')
def test_a_control_is_evaluated_on_a_bag_without_a_model_library(tmp_path: Path) -> None:
    words = [
        'evaluate',
        'open-loop',
        str(SAMPLE_BAG),
        '--policy',
        'constant-velocity',
        '--json',
        str(tmp_path / 'f.json'),
    ]
    code = f'from vla_driver.cli import main\nassert main({words!r}) == 0'
    assert _loaded(code, *HEAVY, 'rosbags') == ['rosbags']


@pytest.mark.skipif(gpu_driver_is_here(), reason='a driver of GPUs is here: torch is asked what it sees')
def test_where_a_figure_was_measured_is_told_without_torch() -> None:
    code = 'from vla_driver.commands.common import provenance\nassert provenance()["precision"]'
    assert _loaded(code, *HEAVY) == []


def test_a_planner_without_a_network_answers_without_one() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2')
    assert _loaded('import vla_driver.ros.nodes.planner, vla_driver.ros.nodes.controller', *HEAVY, *OTHERS) == []
    assert _loaded(_TICK, *HEAVY, *(name for name in OTHERS if name != 'lark')) == []


def test_a_nodes_process_leaves_the_generator_of_messages_out() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2')
    # As far as a node that refuses its parameters: by then it has publishers, and their messages are loaded.
    code = (
        'import sys\nsys.argv = ["planner", "--ros-args", "-p", "policy:=nobody"]\n'
        'from vla_driver.ros.nodes.__main__ import start\nassert start("planner") == 1'
    )
    assert _loaded(code, *HEAVY, *OTHERS, 'rclpy') == ['rclpy']

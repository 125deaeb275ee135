# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: every command explains itself, errors are one line, and help is fast."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vla_driver import cli
from vla_driver.cli import COMMANDS, main
from vla_driver.commands import doctor
from vla_driver.types import InvalidInput


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: ' '.join(command.words))
def test_every_command_has_help(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command.words, '--help'])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f'usage: vla_driver {" ".join(command.words)}' in text
    assert 'options:' in text


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    probe = (
        'import sys\n'
        'from vla_driver.cli import main\n'
        'try:\n    main(["--help"])\nexcept SystemExit:\n    pass\n'
        'heavy = {"torch", "rclpy", "libsumo", "moderngl", "cv2", "rosbags", "transformers"} & set(sys.modules)\n'
        'assert not heavy, heavy\n'
    )
    done = subprocess.run([sys.executable, '-c', probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.words[0] in done.stdout


@pytest.mark.parametrize('group', ['evaluate', 'train'])
def test_groups_list_their_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([group, '--help'])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        if command.words[0] == group:
            assert command.words[1] in text


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'required: COMMAND'),
        (['fly'], "invalid choice: 'fly'"),
        (['evaluate'], 'required: COMMAND'),
        (['evaluate', 'closed-loop', '--policy', 'luck'], "invalid choice: 'luck'"),
        (['evaluate', 'closed-loop', '--scenarios', '0'], 'expected at least 1'),
    ],
)
def test_wrong_words_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_an_error_is_one_line_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / 'missing.json'
    assert main(['evaluate', 'closed-loop', '--compare', str(missing), str(missing)]) == 2
    errors = capsys.readouterr().err
    assert errors == f'error: {missing}: no such file\n'


def test_the_traceback_is_there_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('VLA_DRIVER_DEBUG', '1')
    missing = str(tmp_path / 'missing.json')
    with pytest.raises(InvalidInput, match='no such file'):
        main(['evaluate', 'closed-loop', '--compare', missing, missing])


def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'other.json'
    path.write_text('[1, 2]')
    assert main(['evaluate', 'closed-loop', '--compare', str(path), str(path)]) == 2
    assert 'holds a list, expected an object' in capsys.readouterr().err
    path.write_text('{broken')
    assert main(['evaluate', 'closed-loop', '--compare', str(path), str(path)]) == 2
    assert 'not a JSON file' in capsys.readouterr().err


def test_closed_loop_writes_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'deep' / 'figures.json'
    words = ['evaluate', 'closed-loop', '--split', 'val', '--scenarios', '2', '--policy', 'constant-velocity']
    assert main([*words, '--jobs', '1', '--json', str(path)]) == 0
    figures = json.loads(path.read_text())
    for key in ('success_rate', 'route_completion', 'driving_score', 'collisions_per_km', 'off_road_rate'):
        assert key in figures
        assert len(figures[f'{key}_ci']) == 2
    for key in ('red_light_rate', 'comfort', 'rows', 'policy', 'split', 'seed', 'plan_hz', 'provenance'):
        assert key in figures
    assert figures['rows'][0]['town'].startswith('val')
    assert 'success_rate' in capsys.readouterr().out
    assert not list(path.parent.glob('*.partial'))


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--town', 'atlantis'], 'atlantis'),
        (['--routes', 'my.rou.xml'], 'give --town'),
        (['--length', '-5'], '--length -5: expected 50 to 20000 m (least length of the route)'),
        (['--seconds', '0'], '--seconds 0: expected more than that'),
        (['--prune-ratio', '1.5'], '--prune-ratio 1.5: expected 0 to 0.99'),
        (['--prune-count', '0'], 'leave it out for: as --prune-ratio says'),
        (['--prune-floor', '0'], '--prune-floor 0: expected 1 to 65535'),
        (['--index', '-1'], '--index -1: expected 0 to 9999 (which drive of the split)'),
        (['--plan-hz', '3'], '10, 5, 2 or 1'),
        (['--video', 'drive.avi'], '.mp4'),
    ],
)
def test_drive_names_what_is_wrong(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['drive', '--policy', 'expert', *words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith('error: ')
    assert message in errors


def test_drive_reports_the_route(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'drive.json'
    words = ['drive', '--policy', 'expert', '--split', 'val', '--length', '120', '--json', str(path)]
    assert main(words) == 0
    figures = json.loads(path.read_text())
    assert figures['town'].startswith('val')
    assert figures['distance_m'] > 50.0
    assert figures['plans']['policy'] > 20
    assert 'driving score' in capsys.readouterr().out


@pytest.mark.gl
def test_record_writes_a_bag_that_gives_observations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vla_driver.bag.read import BagReader
    from vla_driver.types import CAMERA_NAMES

    path = tmp_path / 'bags' / 'short'
    code = main(['record', '--out', str(path), '--seconds', '2', '--rate', '5', '--length', '100'])
    shown = capsys.readouterr()
    if code == 2 and 'OpenGL' in shown.err:  # as the other tests marked gl; one that worked is never skipped
        pytest.skip(shown.err)
    assert code == 0, shown.err
    assert '10 pictures per camera' in shown.out
    with BagReader(path) as bag:
        observations = list(bag.observations())
        assert len(observations) == 10
        assert set(observations[0].frames) == set(CAMERA_NAMES)
        assert observations[0].stamp_s == pytest.approx(100.0)
        # Pictures of a world, not of nothing.
        assert observations[5].frames['front'].image.std() > 15.0
        assert len(list(bag.odometry())) == 20
        assert len(list(bag.agents())) == 20
        stamps, trajectories = zip(*bag.expert_trajectories(), strict=True)
        assert len(stamps) == 20
        assert len(trajectories[0]) == 20
        masks = list(bag.semantic('front'))
        assert len(masks) == 10
        assert len(set(masks[5][1].ravel().tolist())) > 3
    assert main(['record', '--out', str(path)]) == 2
    assert 'exists already' in capsys.readouterr().err


def test_doctor_names_a_precision_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('VLA_DRIVER_PRECISION', 'float16')
    finding = doctor._precision()
    assert (finding.part, finding.state) == ('precision', 'fault')
    assert 'float16' in finding.detail and 'unset VLA_DRIVER_PRECISION' in finding.remedy
    assert 'a complete clone' not in doctor._checkpoints().remedy


def test_doctor_uses_every_part_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'doctor.json'
    code = main(['doctor', '--json', str(path)])
    findings = {finding['part']: finding for finding in json.loads(path.read_text())['findings']}
    assert set(findings) >= {
        'python',
        'packages',
        'ros',
        'messages',
        'dds',
        'opengl',
        'sumo',
        'torch',
        'precision',
        'checkpoints',
    }
    # What these tests themselves run on works; every other finding comes with a remedy.
    assert findings['python']['state'] == findings['packages']['state'] == findings['torch']['state'] == 'ok'
    for finding in findings.values():
        assert finding['detail']
        assert (finding['state'] == 'ok') == (finding['remedy'] == '')
    faults = [part for part, finding in findings.items() if finding['state'] == 'fault']
    assert code == (1 if faults else 0)
    assert ('faults: ' + ', '.join(faults) if faults else 'all parts work') in capsys.readouterr().out


def test_doctor_names_a_ros_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ROS_DISTRO', 'humble')
    finding = doctor._ros()
    assert (finding.state, finding.detail) == ('fault', 'ROS 2 humble is sourced; ROS 2 Jazzy or newer is needed')
    assert 'Jazzy or newer' in finding.remedy
    # Under another name it is known by what it lacks.
    monkeypatch.setenv('ROS_DISTRO', 'ours')
    for name, text in {
        '__init__': '',
        'node': 'class Node: pass\n',
        'utilities': 'def get_rmw_implementation_identifier(): return "rmw"\n',
    }.items():
        file = tmp_path / 'rclpy' / f'{name}.py'
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    finding = doctor._ros()
    assert finding.state == 'fault'
    assert 'ROS 2 Jazzy or newer is needed' in finding.detail
    assert str(tmp_path) in finding.detail


#: A command that makes a folder of its own and waits; 'caught': it ends by itself when it is interrupted.
WAITING = """
import argparse, signal, sys, tempfile, time
from vla_driver import cli

def run(args):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        try:
            print('ready', flush=True)
            time.sleep(30.0)
        except KeyboardInterrupt:
            if sys.argv[2] != 'caught':
                raise
            time.sleep(0.2)
            print('written')
    return 0

if sys.argv[2] == 'ignored':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
parser = argparse.ArgumentParser()
parser.add_argument('words', nargs='*')
parser.set_defaults(run=run)
cli._parser = lambda wanted: parser
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ('how', 'signals', 'status', 'words'),
    [
        ('raised', (signal.SIGTERM,), 143, 'terminated\n'),
        ('raised', (signal.SIGTERM, signal.SIGTERM), 143, 'terminated\n'),  # as `timeout` sends it
        ('raised', (signal.SIGINT,), 130, 'interrupted\n'),
        ('caught', (signal.SIGTERM, signal.SIGTERM), 0, 'written\n'),
        ('ignored', (signal.SIGTERM, signal.SIGINT), 130, 'interrupted\n'),
    ],
)
def test_sigterm_lets_a_command_clean_up(
    how: str, signals: tuple[signal.Signals, ...], status: int, words: str, tmp_path: Path
) -> None:
    command = subprocess.Popen(
        [sys.executable, '-c', WAITING, str(tmp_path), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that run in the background of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == 'ready\n'
        for number in signals:
            command.send_signal(number)
        output, _ = command.communicate(timeout=20.0)
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
    assert (command.returncode, output) == (status, words)
    assert list(tmp_path.iterdir()) == []


def test_whoever_calls_a_command_keeps_its_own_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(['inspect', '/nothing']) == 2
    capsys.readouterr()
    assert signal.getsignal(signal.SIGTERM) is before

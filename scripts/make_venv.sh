#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Makes ./.venv: the pinned Python packages and, unless a ROS 2 distribution is sourced, ROS 2 itself
# from wheels.  Called by `make setup`; run again, it brings an existing .venv up to date.
# PYTHON=/path/to/python3.x chooses the interpreter, ROS=kilted the wheels of ROS 2 Kilted instead of Jazzy's.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case ${ROS:-jazzy} in
  jazzy) ros=Jazzy ros_requirements=requirements-ros.txt ;;
  kilted) ros=Kilted ros_requirements=requirements-ros-kilted.txt ;;
  *) fail "ROS=$ROS; there are wheels for ROS=jazzy (the default) and ROS=kilted" ;;
esac

version_ok() {
  command -v "$1" >/dev/null &&
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

# A sourced distribution (not the wheels of this .venv, which scripts/ros_env.sh makes look like one).
# Its rclpy is built for its own Python, so that is the one to use.
system_ros=no
if [ -n "${ROS_DISTRO:-}" ] &&
  python3 -c "import rclpy, sys; sys.exit(rclpy.__file__.startswith('$PWD/$VENV/'))" 2>/dev/null; then
  system_ros=yes
  # Their rclpy lacks what the nodes are made of; vla_driver/commands/doctor.py has the same list.
  case $ROS_DISTRO in
    ardent | bouncy | crystal | dashing | eloquent | foxy | galactic | humble | iron)
      fail "ROS 2 $ROS_DISTRO is sourced; ROS 2 Jazzy or newer is needed. Source one of these, or run this
       in a shell where none is sourced (mind ~/.bashrc): .venv then gets ROS 2 Jazzy from wheels" ;;
  esac
  [ "${ROS:-$ROS_DISTRO}" = "$ROS_DISTRO" ] ||
    fail "ROS=$ROS asks for its wheels, but ROS 2 $ROS_DISTRO is sourced and would be used. Leave ROS= out, or run
       this in a shell where none is sourced (mind ~/.bashrc)"
fi

if [ -z "${PYTHON:-}" ]; then
  if [ $system_ros = yes ]; then
    PYTHON=python3
  else
    for candidate in python3.11 python3.12 python3.10 python3; do
      if version_ok "$candidate"; then PYTHON=$candidate; break; fi
    done
  fi
fi
[ -n "${PYTHON:-}" ] || fail "no Python 3.10, 3.11 or 3.12 found (the ROS 2 wheels exist for these only).
       Install one, e.g. 'sudo apt-get install python3.11 python3.11-venv', or name it: make setup PYTHON=/path/to/python3.11"
version_ok "$PYTHON" || fail "$PYTHON is $("$PYTHON" --version 2>&1 || true); Python 3.10, 3.11 or 3.12 is needed"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$PYTHON cannot make environments; install its venv package, e.g. 'sudo apt-get install python3-venv'"
for tool in cmake make g++; do
  command -v $tool >/dev/null || fail "$tool is missing; run: sudo apt-get install -y build-essential cmake"
done

if [ $system_ros = yes ]; then
  say "ROS 2 $ROS_DISTRO is sourced: .venv will use it ($("$PYTHON" --version))"
  options=(--system-site-packages)
  site=true
else
  say "no ROS 2 is sourced: .venv will hold ROS 2 $ros from wheels ($("$PYTHON" --version))"
  options=()
  site=false
fi
# An environment of another Python, of another kind or from another place cannot be brought up to date.
if [ -e $VENV/pyvenv.cfg ]; then
  minor=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  if ! [ -x "$VENV/bin/$minor" ] || ! grep -q "include-system-site-packages = $site" $VENV/pyvenv.cfg ||
    ! head -n 1 $VENV/bin/pip | grep -qF "$PWD/$VENV/"; then
    say "the present .venv does not fit; making it anew"
    options+=(--clear)
    rm -rf build/vla_driver install/vla_driver # built with what goes now
  fi
fi
"$PYTHON" -m venv "${options[@]}" $VENV

# Two sets of ROS wheels must not mix: where one that is here is not among those to come, all of them go
# first, and the messages that were built with them.
if [ $system_ros = no ]; then
  present=$($VENV/bin/python -m pip --disable-pip-version-check list --format freeze | grep '^ros-' || true)
  if [ -n "$present" ] && grep -qvxFf <(sed 's/;.*//' $ros_requirements) <<<"$present"; then
    say "removing the ROS 2 wheels of another set"
    rm -rf build/vla_driver install/vla_driver $VENV/ros_distro
    sed 's/==.*//' <<<"$present" | xargs $VENV/bin/python -m pip --disable-pip-version-check uninstall --yes --quiet
  fi
fi

wanted=(-r requirements.txt)
[ $system_ros = yes ] || wanted+=(-r $ros_requirements)
say "installing the pinned packages (several minutes on a first run) ..."
# Of pip's many lines those that tell how far it is: large downloads and the end.  Errors are not filtered.
shown='^ +Downloading .*\(([0-9.]+ GB|[0-9]{2,}(\.[0-9])? MB)\)|^Installing collected|^Successfully'
status=0
$VENV/bin/python -m pip install --disable-pip-version-check --progress-bar off --no-compile "${wanted[@]}" </dev/null |
  sed --unbuffered -n -E "/$shown/{s/^(.{100}).*/\\1 .../;p}" || status=$?
[ $status -eq 0 ] || fail "pip could not install the requirements (see above); check the network and the free
       space of the disk (several GB are needed), then run it again"

if [ $system_ros = no ]; then
  $VENV/bin/python scripts/relocate_ros_wheels.py
  echo "${ROS:-jazzy}" >$VENV/ros_distro # scripts/ros_env.sh reads it
fi
# All cores at once; pip would do it one file after another.  Some packages ship templates, which are no Python.
say "compiling Python files ..."
$VENV/bin/python -m compileall -qq -j 0 $VENV/lib || true
say "environment ready"

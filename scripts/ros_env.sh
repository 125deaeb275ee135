# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Source me:  . scripts/ros_env.sh
#
# Makes ./.venv the ROS 2 prefix of this shell, as /opt/ros/<distro>/setup.bash does where ROS is
# installed.  Needed for colcon, cmake and other programs that are not Python; Python programs of
# .venv find everything by themselves.  Does nothing but activate when .venv has no ROS of its own
# (then the sourced distribution serves).

_vla_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_vla_venv="${VLA_DRIVER_VENV:-$_vla_root/.venv}"
if [ ! -x "$_vla_venv/bin/python" ]; then
  echo "error: $_vla_venv holds no Python environment; run 'make setup' first" >&2
  return 1
fi

export PATH="$_vla_venv/bin:$PATH"
export VIRTUAL_ENV="$_vla_venv"
if [ -d "$_vla_venv/share/ament_cmake" ]; then
  export AMENT_PREFIX_PATH="$_vla_venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
  export CMAKE_PREFIX_PATH="$_vla_venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
  _vla_libs="$_vla_venv/lib"
  for _vla_dir in "$_vla_venv"/lib/python3.*/site-packages/ros_*.libs; do
    [ -d "$_vla_dir" ] && _vla_libs="$_vla_libs:$_vla_dir"
  done
  export LD_LIBRARY_PATH="$_vla_libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  ROS_DISTRO=$(cat "$_vla_venv/ros_distro" 2>/dev/null || echo jazzy)
  export ROS_DISTRO ROS_VERSION=2 ROS_PYTHON_VERSION=3
fi
unset _vla_root _vla_venv _vla_libs _vla_dir

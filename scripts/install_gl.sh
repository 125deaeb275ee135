#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs the system's OpenGL libraries, which the simulator's cameras are drawn with (EGL, so no
# display and no GPU are needed).  As root it asks apt; otherwise it prints the line to run.
# Only the simulator needs them, so a failure is told and is not an error.
set -u

PACKAGES="libegl1 libgl1 libgl1-mesa-dri libegl-mesa0"

have_library() {
  # ldconfig is not on every user's PATH.
  { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null; } | grep -q "$1"
}

have_gl() {
  # A vendor's driver (NVIDIA) brings its own EGL; Mesa's draws on the processor.
  have_library 'libEGL\.so\.1' && have_library 'libGL\.so\.1' &&
    { have_library 'libEGL_mesa\.so\.0' || have_library 'libEGL_nvidia\.so\.0'; }
}

if have_gl; then
  echo "OpenGL (EGL): present"
  exit 0
fi

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "OpenGL (EGL): installing $PACKAGES ..."
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # the list is meant to be split
  if apt-get -qq update </dev/null && apt-get -qq install -y --no-install-recommends $PACKAGES </dev/null; then
    echo "OpenGL (EGL): installed"
    exit 0
  fi
  echo "warning: apt could not install them (see above)." >&2
fi

echo "warning: the simulator cannot draw without the system's OpenGL libraries; everything else works." >&2
echo "         To install them:  sudo apt-get install -y --no-install-recommends $PACKAGES" >&2
exit 0

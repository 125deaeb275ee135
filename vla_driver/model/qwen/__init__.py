# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Qwen2.5-VL and Qwen3-VL checkpoints as Policy and Reasoner, with pruning before, in and after their vision encoder.

six images + ego history
  -> prompt.py     a template's words, images at their places
  -> vision.py     patches -> merged visual tokens; early.py may drop patches after an early block
  -> sequence.py   words and visual tokens with their 3-D positions; a Pruner may drop tokens
  -> language.py   prefill, a cache, one token after the other; an InModelPruner may drop tokens
  -> answer.py     text -> six waypoints, or a named error
  -> waypoints.py  six waypoints -> a trajectory that a car can drive
"""

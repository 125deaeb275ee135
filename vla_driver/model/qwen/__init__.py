# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Qwen2.5-VL and Qwen3-VL as driving models; policies/qwen.py makes a Policy and a Reasoner of them.

six images + ego history
  -> prompt.py     a template's words, images at their places
  -> vision.py     patches -> merged visual tokens (grids.py: which patches make which token)
  -> sequence.py   words and visual tokens with their 3-D positions
  -> language.py   prefill, a cache, one token after the other
  -> answer.py     text -> six waypoints, or a named error
  -> waypoints.py  six waypoints -> a trajectory that a car can drive

A `TokenStage` (model/pruning/stage.py) may let tokens leave in vision.py, in sequence.py or in language.py.
"""

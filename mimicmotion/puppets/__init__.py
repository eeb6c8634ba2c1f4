"""Procedural people with exact ground truth: pictures, whole-body keypoints and a map of body parts.

They train and measure the embedded model and serve tests and demos. person -> motion -> skeleton -> render -> clips.
"""

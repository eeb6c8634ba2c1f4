"""Motion-driven video generation: animate a reference person with driving videos.

Importing this package does nothing heavy: torch, diffusers and the pose models are imported by the modules
that use them.
"""

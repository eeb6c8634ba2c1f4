"""Training of the small world model on sessions of the procedural courtyard, on the loop of `mimicmotion.training`.

vae -> world, with gate before the long run and evaluate after it; scripts/train_world.py is the way in.
"""

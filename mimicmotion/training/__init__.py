"""Training of the embedded tiny model: a pool of rendered clips, and one loop for all stages.

vae -> encoder -> unet -> lcm; each stage reads what the earlier ones wrote to the model's folder and adds its part.
"""

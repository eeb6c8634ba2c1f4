"""Network parts that diffusers does not have."""

"""How well a model answers, and whether its latents are used."""

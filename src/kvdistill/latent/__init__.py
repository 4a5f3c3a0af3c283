"""The latent student: teacher and student mode of one backbone, generation, saving and loading."""

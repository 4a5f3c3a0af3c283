"""The latent student: both modes of one backbone, and the model that users load."""

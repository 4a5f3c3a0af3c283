"""One training run: its folder, its samples, its student and teachers, and how they become a trained model."""

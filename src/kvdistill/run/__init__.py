"""One training run: its folder, samples, student, teachers, training step and evaluation."""

"""One training run: its folder, samples, student, teachers, training and evaluation."""

"""Models and data sets of the Hugging Face hub, brought here: fetched ahead of time, written as JSON lines."""

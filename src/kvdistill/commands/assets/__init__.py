"""Download models and data sets of the Hugging Face hub ahead of time, and export data sets to JSON lines."""

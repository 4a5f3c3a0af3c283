"""Download models and data sets of the Hugging Face hub ahead of time; data sets as JSON lines."""

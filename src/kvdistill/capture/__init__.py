"""The only door to the models' attention: a model of transformers in, caches without rotation out."""

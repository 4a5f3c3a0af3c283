"""The demo of several teachers: two small teachers of other families and tokenizers, and one student."""

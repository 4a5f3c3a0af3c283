"""The doctor: what this machine has, what is broken, and what would not work here."""

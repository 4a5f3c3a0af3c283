"""``kvdistill doctor``: check hardware, software, hub access and processes, and list what would not work."""

"""``kvdistill align``: inspect how the teachers of a run are aligned, or fit their adapters in advance."""

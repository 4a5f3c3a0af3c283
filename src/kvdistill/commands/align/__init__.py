"""``kvdistill align``: inspect how a configuration's teachers are aligned, or fit their adapters in advance."""

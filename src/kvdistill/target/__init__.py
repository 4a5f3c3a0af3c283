"""Targets from teachers' caches: compressed, replaced by a control, and paired with the student's cache."""

from kvdistill.target.bridge import Bridge, SameBridge
from kvdistill.target.build import TargetBuilder, check_settings
from kvdistill.target.controls import Control, MeanTarget, NoControl, OtherSample, Shuffled
from kvdistill.target.lift import LiftBridge
from kvdistill.target.mean import TargetMean
from kvdistill.target.methods import BridgeMethod, Lift, Same

__all__ = [
    "Bridge",
    "BridgeMethod",
    "Control",
    "Lift",
    "LiftBridge",
    "MeanTarget",
    "NoControl",
    "OtherSample",
    "Same",
    "SameBridge",
    "Shuffled",
    "TargetBuilder",
    "TargetMean",
    "check_settings",
]

"""From a teacher's compressed cache to the target: negative controls and the mean over the data set."""

from kvdistill.target.controls import Control, MeanTarget, NoControl, OtherSample, Shuffled
from kvdistill.target.mean import TargetMean

__all__ = ["Control", "MeanTarget", "NoControl", "OtherSample", "Shuffled", "TargetMean"]

"""Compressors of a KV cache to the student's M latent slots: ``ModelKV -> ModelKV``.

A compressor is one file, one test file of the same name and one entry in the union below.
"""

from kvdistill.compress.attention import Attention
from kvdistill.compress.base import Compressor, ScoreCompressor
from kvdistill.compress.cosine import Cosine
from kvdistill.compress.full import Full
from kvdistill.compress.full_resampled import FullResampled
from kvdistill.compress.left_crop import LeftCrop
from kvdistill.compress.random import Random
from kvdistill.compress.right_crop import RightCrop
from kvdistill.compress.rkv import RKV
from kvdistill.compress.rkv_decode import RKVDecode
from kvdistill.compress.step_end import StepEnd
from kvdistill.compress.uniform import Uniform

CompressorMethod = (
    RightCrop
    | LeftCrop
    | RKV
    | RKVDecode
    | StepEnd
    | Uniform
    | Random
    | Attention
    | Cosine
    | Full
    | FullResampled
)
"""Every method, told apart by ``kind``."""

__all__ = [
    "RKV",
    "Attention",
    "Compressor",
    "CompressorMethod",
    "Cosine",
    "Full",
    "FullResampled",
    "LeftCrop",
    "RKVDecode",
    "Random",
    "RightCrop",
    "ScoreCompressor",
    "StepEnd",
    "Uniform",
]

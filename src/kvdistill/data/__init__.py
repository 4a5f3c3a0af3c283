"""Text to examples to token ids: one data set or format a file."""

from kvdistill.data.arith import Arith
from kvdistill.data.batches import length_batches
from kvdistill.data.chain import Chain
from kvdistill.data.collate import collate
from kvdistill.data.encode import EncodedSet, encode, encode_all, encode_questions
from kvdistill.data.gsm8k import Gsm8k
from kvdistill.data.questions import Questions
from kvdistill.data.rows import DataError
from kvdistill.data.sources import FORMATS, Source, load
from kvdistill.data.steps_json import StepsJson
from kvdistill.data.synthetic import Synthetic, write_jsonl
from kvdistill.data.template import Chat, Plain, Template, default_template
from kvdistill.data.words import word_tokenizer

__all__ = [
    "FORMATS",
    "Arith",
    "Chain",
    "Chat",
    "DataError",
    "EncodedSet",
    "Gsm8k",
    "Plain",
    "Questions",
    "Source",
    "StepsJson",
    "Synthetic",
    "Template",
    "collate",
    "default_template",
    "encode",
    "encode_all",
    "encode_questions",
    "length_batches",
    "load",
    "word_tokenizer",
    "write_jsonl",
]

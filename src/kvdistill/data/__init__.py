"""Text to examples to token ids: one data set or format a file."""

from kvdistill.data.arith import Arith
from kvdistill.data.batches import length_batches
from kvdistill.data.chain import Chain
from kvdistill.data.collate import collate
from kvdistill.data.encode import EncodedSet, encode, encode_all, encode_questions
from kvdistill.data.gsm8k import Gsm8k
from kvdistill.data.hub import Hub, read_hub
from kvdistill.data.quarantine import quarantine
from kvdistill.data.questions import Questions
from kvdistill.data.rows import BadRow, DataError, Loaded
from kvdistill.data.sources import FORMATS, Source, load
from kvdistill.data.steps_json import StepsJson
from kvdistill.data.stream import RowStream
from kvdistill.data.synthetic import Synthetic, write_jsonl
from kvdistill.data.template import Chat, Plain, Template, default_template
from kvdistill.data.text_lines import TextLines
from kvdistill.data.words import word_tokenizer

__all__ = [
    "FORMATS",
    "Arith",
    "BadRow",
    "Chain",
    "Chat",
    "DataError",
    "EncodedSet",
    "Gsm8k",
    "Hub",
    "Loaded",
    "Plain",
    "Questions",
    "RowStream",
    "Source",
    "StepsJson",
    "Synthetic",
    "Template",
    "TextLines",
    "collate",
    "default_template",
    "encode",
    "encode_all",
    "encode_questions",
    "length_batches",
    "load",
    "quarantine",
    "read_hub",
    "word_tokenizer",
    "write_jsonl",
]

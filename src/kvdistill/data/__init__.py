"""Data sets: rows to examples to padded batches of token ids; one data set or format in each file.

Names are imported when they are first used, so that reading a configuration does not load the data libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvdistill.data.arith import Arith
    from kvdistill.data.batches import length_batches
    from kvdistill.data.chain import Chain
    from kvdistill.data.collate import encode_questions
    from kvdistill.data.encode import EncodedSet, encode, encode_all
    from kvdistill.data.gsm8k import Gsm8k
    from kvdistill.data.hub import Hub, read_hub
    from kvdistill.data.questions import Questions
    from kvdistill.data.readers import Reader
    from kvdistill.data.rows import BadRow, DataError, Loaded
    from kvdistill.data.rules import Rules
    from kvdistill.data.sources import FORMATS, Source, load
    from kvdistill.data.steps_json import StepsJson
    from kvdistill.data.stream import RowStream
    from kvdistill.data.synthetic import Synthetic, write_jsonl
    from kvdistill.data.template import Chat, Plain, Template, default_template
    from kvdistill.data.text_lines import TextLines
    from kvdistill.data.words import word_tokenizer

_HOME = {
    "Arith": "kvdistill.data.arith",
    "length_batches": "kvdistill.data.batches",
    "Chain": "kvdistill.data.chain",
    "EncodedSet": "kvdistill.data.encode",
    "encode": "kvdistill.data.encode",
    "encode_all": "kvdistill.data.encode",
    "encode_questions": "kvdistill.data.collate",
    "Gsm8k": "kvdistill.data.gsm8k",
    "Hub": "kvdistill.data.hub",
    "read_hub": "kvdistill.data.hub",
    "Questions": "kvdistill.data.questions",
    "Reader": "kvdistill.data.readers",
    "BadRow": "kvdistill.data.rows",
    "DataError": "kvdistill.data.rows",
    "Loaded": "kvdistill.data.rows",
    "Rules": "kvdistill.data.rules",
    "FORMATS": "kvdistill.data.sources",
    "Source": "kvdistill.data.sources",
    "load": "kvdistill.data.sources",
    "StepsJson": "kvdistill.data.steps_json",
    "RowStream": "kvdistill.data.stream",
    "Synthetic": "kvdistill.data.synthetic",
    "write_jsonl": "kvdistill.data.synthetic",
    "Chat": "kvdistill.data.template",
    "Plain": "kvdistill.data.template",
    "Template": "kvdistill.data.template",
    "default_template": "kvdistill.data.template",
    "TextLines": "kvdistill.data.text_lines",
    "word_tokenizer": "kvdistill.data.words",
}
"""Name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


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
    "Reader",
    "RowStream",
    "Rules",
    "Source",
    "StepsJson",
    "Synthetic",
    "Template",
    "TextLines",
    "default_template",
    "encode",
    "encode_all",
    "encode_questions",
    "length_batches",
    "load",
    "read_hub",
    "word_tokenizer",
    "write_jsonl",
]

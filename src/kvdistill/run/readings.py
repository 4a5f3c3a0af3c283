"""Teachers that read another text than the student: their chains, and whether the data have them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from kvdistill.config import TeacherSection
from kvdistill.console.messages import did_you_mean, quoted
from kvdistill.data.readers import Reader
from kvdistill.data.readings import ReadText, SampledText, Steps, StudentText, TraceText
from kvdistill.data.template import Plain, Template, default_template
from kvdistill.records.traces import read_traces
from kvdistill.run.teacher_models import option_of
from kvdistill.teacher.base import Teacher
from kvdistill.text import Encoded, Example


def text_of(name: str, section: TeacherSection, seed: int) -> ReadText:
    """What a teacher reads.

    Args:
        name: the teacher's short name.
        section: its section.
        seed: seed of the run, which chains are drawn by.

    Returns:
        The student's text, a trace of the data, or the teacher's own chains.

    Raises:
        ValueError: if the file of its chains is missing or damaged.
    """
    if section.reads == "gold":
        return StudentText()
    if section.traces is None:
        return TraceText(section.reads)
    return SampledText(right_chains(f"{option_of(name)}.traces", section.traces), section.draw or 0, seed)


def right_chains(option: str, path: str) -> dict[str, tuple[Steps, ...]]:
    """The right chains of a file of `kvdistill sample`.

    Args:
        option: where the file was named, for messages.
        path: the file or its folder.

    Returns:
        Chains by ``question_key``; without those that have no step, and without questions that have none.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    try:
        found = read_traces(Path(path))
    except FileNotFoundError as error:
        raise ValueError(
            f"{option}: there is no {path}. `kvdistill sample` writes it (samples.jsonl in its output "
            "folder)."
        ) from error
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    chains: dict[str, tuple[Steps, ...]] = {}
    for key, question in found.items():
        kept = tuple(trace.steps for trace in question.traces if trace.steps)
        if kept:
            chains[key] = kept
    return chains


def try_reader(option: str, reader: Reader) -> None:
    """Try a reader on one example, so that what it lacks is found before training.

    Args:
        option: the teacher's section, for messages.
        reader: the reader.

    Raises:
        ValueError: if its tokenizer or template cannot read an example, or cannot hold its cue.
    """
    if reader.cue is not None:
        require_cue(option, reader.cue, reader.tokenizer, reader.template)
    try:
        reader.encode([Example("1", ("1", "1"), "1", "probe")])
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def require_cue(option: str, cue: str, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> None:
    """Refuse a cue that would be read as something else than the end of the question.

    Args:
        option: the teacher's section, for messages.
        cue: the end of the question.
        tokenizer: the teacher's tokenizer.
        template: its template; None as in ``Reader``.

    Raises:
        ValueError: if the cue holds special tokens, words that the tokenizer does not know, or a line break
            that the template cannot hold.
    """
    special = [token for token in tokenizer.all_special_tokens if str(token) in cue]
    if special:
        raise ValueError(
            f"{option}.cue: {quoted(cue)} holds {special[0]}, which the tokenizer reads as a special token: "
            "leave it out."
        )
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in tokenizer(cue, add_special_tokens=False)["input_ids"]:
        raise ValueError(
            f"{option}.cue: {quoted(cue)} holds words that the tokenizer does not know: choose others."
        )
    if isinstance(template or default_template(tokenizer), Plain) and "\n" in cue:
        raise ValueError(
            f"{option}.cue: {quoted(cue)} holds a line break, and the template plain keeps a question on one "
            f"line: write it in one line, or set {option}.template.kind to chat."
        )


def require_readings(
    teachers: Sequence[Teacher], samples: Sequence[Encoded], say: Callable[[str], None]
) -> None:
    """Refuse teachers that have nothing to read; say what they cover.

    Args:
        teachers: the teachers of a run.
        samples: encoded training samples.
        say: prints a line.

    Raises:
        ValueError: naming the teacher, the number of samples and what to do.
    """
    for teacher in teachers:
        if teacher.reader is None or teacher.reader.text.same:
            continue
        text = teacher.reader.text
        examples = [sample.example for sample in samples]
        read = [found for found in (text.of(example, 0) for example in examples) if found is not None]
        covered = sum(bool(found.steps) for found in read)
        if covered == 0:
            raise ValueError(_nothing(option_of(teacher.name), text, examples))
        if covered < len(samples):
            say(
                f"{option_of(teacher.name)}: it has a chain of thought for {covered} of {len(samples)} "
                "training samples and teaches those"
            )


def _nothing(option: str, text: ReadText, examples: Sequence[Example]) -> str:
    if isinstance(text, SampledText):
        return _too_few(option, text, examples)
    assert isinstance(text, TraceText)
    names = list(dict.fromkeys(trace.name for example in examples for trace in example.traces))
    known = "have no named traces"
    if names:
        known = f"have {', '.join(names)}"
    return (
        f"{option}.reads is {text.name!r}, and none of {len(examples)} training samples has such a trace; "
        f"they {known}.{did_you_mean(text.name, [*names, 'gold', 'own'])} GSM8K rows have words and "
        'equations, embedded tasks terse and verbose; reads = "gold" is the student\'s text, for a teacher '
        "with a cue or template of its own."
    )


def _too_few(option: str, text: SampledText, examples: Sequence[Example]) -> str:
    number = text.place + 1
    right = sum(SampledText(text.chains).of(example, 0) is not None for example in examples)
    return (
        f"{option}.reads is 'own', and the teacher has {number} right and distinct chains of thought or more "
        f"for none of {len(examples)} training questions ({right} have at least one): sample more chains or "
        "other questions with `kvdistill sample`, lower draw, or choose a better teacher."
    )

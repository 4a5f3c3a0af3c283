"""The report's example: one question with its chain of thought, decoded latent slots and answers."""

from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path

from kvdistill.records.example import ExampleAnswer, ExampleRecord, SlotReading
from kvdistill.reporting.blocks import Table, Words, filled, literal, percent
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import method

_HEADER = ("", "chain of thought, as text", "latent slot, decoded")
_BLANK = "(blank)"
_VERDICTS = {True: "right", False: "wrong"}
_MARKS = {True: "✓", False: "✗"}


@dataclass(frozen=True)
class Example:
    """A block with the question, each reasoning step beside its latent slot, and the answers."""

    record: ExampleRecord

    def html(self) -> str:
        """As HTML; three columns (number, step, slot) on every screen width."""
        record = self.record
        steps = list(zip(record.steps, record.results, strict=True))
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in _HEADER)
        rows = [
            f"<tr><td>{place}</td><td>{_step(step)}</td><td>{_slot(slot, match)}</td></tr>"
            for place, (step, slot, match) in enumerate(
                zip_longest(steps, record.slots, record.matches), start=1
            )
        ]
        parts = [
            '<div class="example">',
            _task(record.task),
            f'<h3>The question</h3>\n<p class="asked">{escape(record.question)}</p>',
            "<h3>The reasoning</h3>",
            f'<table class="words steps"><thead><tr>{head}</tr></thead>\n<tbody>',
            *rows,
            "</tbody></table>",
            "<h3>The answers</h3>",
            '<table class="words">\n<tbody>',
            f"<tr><td>right answer</td><td><mark>{escape(record.answer)}</mark></td></tr>",
            *(
                f"<tr><td>{escape(_label(answer.method))}</td><td>{_said(answer)}</td></tr>"
                for answer in record.answers
            ),
            "</tbody></table>",
        ]
        return "\n".join([*filter(None, parts), "</div>"])

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        table = self._table().markdown(folder)
        answers = "\n".join(f"* {literal(line)}" for line in self._answers())
        parts = [f"> {literal(self.record.question)}", table, answers]
        if self.record.task:
            parts.insert(0, literal(self.record.task))
        return "\n\n".join(parts)

    def plain(self, width: int) -> str:
        """As lines of at most ``width`` characters."""
        words = [self.record.task, self.record.question]
        lines = "\n".join(filled(line, width) for line in self._answers())
        return "\n\n".join(
            [*(filled(text, width) for text in words if text), self._table().plain(width), lines]
        )

    def _table(self) -> Table:
        pairs = zip_longest(self.record.steps, self.record.slots)
        rows = [[str(place), step or "", _reading(slot)] for place, (step, slot) in enumerate(pairs, start=1)]
        return Table(_HEADER, rows, words=True)

    def _answers(self) -> list[str]:
        told = [
            f"{_label(one.method)}: {_shown(one.answer)} ({_VERDICTS[one.right]})"
            for one in self.record.answers
        ]
        return [f"right answer: {self.record.answer}", *told]


def example_section(record: ExampleRecord | None) -> list[Section]:
    """The section with the example.

    Args:
        record: the run's example.json.

    Returns:
        One section; an empty list where the run recorded no example.
    """
    if record is None:
        return []
    matched = sum(record.matches)
    told = (
        f"This is {record.rule}; how it is answered played no part in the choice. The result of each "
        "step is underlined. "
    )
    if record.matches:
        told += f"Of {len(record.matches)} slots beside a step, {matched} decode to its result. "
    told += (
        "A slot is decoded by the language-model head; the bar and the number are the probability of "
        "its likeliest word."
    )
    return [Section("One question, as text and in latent slots", [Words(told), Example(record)])]


def _task(task: str) -> str:
    if not task:
        return ""
    return f"<h3>The task</h3>\n<p>{escape(task)}</p>"


def _step(step: tuple[str, str] | None) -> str:
    """HTML of a reasoning step; its result is underlined if the step contains it."""
    if step is None:
        return ""
    words, result = step
    if not result or result not in words:
        return escape(words)
    before, found, after = words.rpartition(result)
    return f"{escape(before)}<mark>{escape(found)}</mark>{escape(after)}"


def _slot(slot: SlotReading | None, match: bool | None) -> str:
    """HTML of a slot: its most likely word with its probability, the next ones in small print."""
    if slot is None:
        return ""
    word = escape(_shown(slot.words[0]))
    verdict, more = "", ""
    if match is not None:
        verdict = f' <span class="{_VERDICTS[match]}">{_MARKS[match]}</span>'
    share = slot.probabilities[0]
    rest = ", ".join(
        f"{_shown(text)} {_small(chance)}"
        for text, chance in zip(slot.words[1:], slot.probabilities[1:], strict=True)
    )
    if rest:
        more = f'<span class="more">next: {escape(rest)}</span>'
    bar = f'<span class="sure"><span style="width: {100 * share:.1f}%"></span></span>'
    return f"<b>{word}</b> {percent(share)}{verdict}{bar}{more}"


def _said(answer: ExampleAnswer) -> str:
    """HTML of an answer with its verdict, and the complete generated text if it differs."""
    word = _VERDICTS[answer.right]
    verdict = f'<span class="{word}">{_MARKS[answer.right]} {word}</span>'
    text = f"<b>{escape(_shown(answer.answer))}</b> {verdict}"
    if _shown(answer.text) != _shown(answer.answer):
        text += f'<br><span class="more">said: {escape(answer.text)}</span>'
    return text


def _small(share: float) -> str:
    if share < 5e-4:
        return "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%"
    return percent(share)


def _reading(slot: SlotReading | None) -> str:
    if slot is None:
        return ""
    return ", ".join(
        f"{_shown(word)} {_small(share)}" for word, share in zip(slot.words, slot.probabilities, strict=True)
    )


def _label(name: str) -> str:
    return method(name).label


def _shown(text: str) -> str:
    return " ".join(text.split()) or _BLANK

"""A question beside its slots: everything that was recorded is shown, and text stays text."""

from pathlib import Path

from kvdistill.records.example import ExampleAnswer, ExampleRecord, SlotReading
from kvdistill.reporting.example_section import Example, example_section

RECORD = ExampleRecord(
    task="Who?",
    rule="the first",
    data_set="t",
    sample_id="0",
    question="a < b ?",
    steps=["then Ann hands Bob .", "x"],
    results=["Bob", "x"],
    answer="Bob",
    slots=[
        SlotReading(words=["Bob", "<eot>"], probabilities=[0.9, 0.0001]),
        SlotReading(words=["", "x"], probabilities=[0.5, 0.25]),
    ]
    * 2,
    matches=[True, False],
    answers=[
        ExampleAnswer(method="rkv", text="Bob", answer="Bob", right=True),
        ExampleAnswer(method="cot", text="x <", answer="", right=False),
    ],
)


def test_the_page_shows_step_beside_slot_and_every_answer() -> None:
    html = Example(RECORD).html().replace("\N{NO-BREAK SPACE}", " ")
    for part in (
        "a &lt; b ?",
        "<td>1</td><td>then Ann hands <mark>Bob</mark> .</td><td><b>Bob</b> 90.0 % <span "
        'class="right">✓</span>',
        "next: &lt;eot&gt; &lt; 0.1 %",
        '<td>2</td><td><mark>x</mark></td><td><b>(blank)</b> 50.0 % <span class="wrong">✗</span>',
        "<td>4</td><td></td>",
        '<td>latent, R-KV</td><td><b>Bob</b> <span class="right">✓ right</span></td>',
        '<td>CoT, verbose</td><td><b>(blank)</b> <span class="wrong">✗ wrong</span>',
        '<br><span class="more">said: x &lt;</span></td>',
    ):
        assert part in html, part


def test_markdown_and_text_hold_the_same() -> None:
    for text in (Example(RECORD).markdown(Path()).replace("\\", ""), Example(RECORD).plain(200)):
        for part in (
            "Who?",
            "a < b ?",
            "then Ann hands Bob .",
            "latent, R-KV: Bob (right)",
            "CoT, verbose: (blank) (wrong)",
            "right answer: Bob",
        ):
            assert part in text, part


def test_a_run_without_an_example_has_no_section() -> None:
    assert example_section(None) == [] and "Of 2 slots beside a step, 1 decode" in example_section(RECORD)[
        0
    ].blocks[0].plain(999)

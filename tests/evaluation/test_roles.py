"""Roles of tokens by hand, for words, parts of words, line breaks and padding."""

import torch

from kvdistill.data import Chain, Plain, encode_all, word_tokenizer
from kvdistill.data.collate import collate
from kvdistill.evaluation.roles import NONE, batch_roles, token_roles


def test_words_by_hand() -> None:
    # "then Bob\nthen Ann\n": one token a word.
    spans = [(0, 4), (5, 8), (9, 13), (14, 17)]
    roles = token_roles([spans], [["then Bob", "then Ann"]])
    assert roles.result.tolist() == [[NONE, 0, NONE, 1]]
    assert roles.mask.tolist() == [[True] * 4]
    assert len(set(roles.role[0].tolist())) == 4, "the same word of another step is another role"


def test_the_result_is_the_word_before_a_full_stop() -> None:
    roles = token_roles([[(0, 4), (5, 8), (9, 10)]], [["then Bob ."]])
    assert roles.result.tolist() == [[NONE, 0, NONE]]
    # Attached to the word, the stop is a part of it, and no part of the result.
    roles = token_roles([[(0, 4), (4, 8), (8, 9)]], [["then Bob."]])
    assert roles.result.tolist() == [[NONE, 0, NONE]]
    assert roles.role[0, 1] == roles.role[0, 2] != roles.role[0, 0]


def test_parts_of_a_number_all_carry_it_and_earlier_occurrences_do_not() -> None:
    text = "12 + 0 = 12"
    spans = [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]  # the last two: " 1", "2"
    roles = token_roles([spans], [[text]])
    assert roles.result.tolist() == [[NONE, NONE, NONE, NONE, 0, 0]]
    assert roles.role[0, 4] == roles.role[0, 5]
    assert token_roles([[(0, 11)]], [["<<3*4=12>>", "7"]]).result.tolist() == [[0]]


def test_a_line_break_has_a_role_of_its_own_and_goes_to_a_word_it_shares_a_token_with() -> None:
    # "Bob\nAnn\n" as Bob, line break, Ann, line break; then as Bob, line break with Ann, line break.
    apart = token_roles([[(0, 3), (3, 4), (4, 7), (7, 8)]], [["Bob", "Ann"]])
    joined = token_roles([[(0, 3), (3, 7), (7, 8)]], [["Bob", "Ann"]])
    assert apart.result.tolist() == [[0, NONE, 1, NONE]]
    assert joined.result.tolist() == [[0, 1, NONE]]
    assert len(set(apart.role[0].tolist())) == 4
    assert joined.role[0].tolist() == apart.role[0, [0, 2, 3]].tolist()


def test_steps_without_tokens_and_samples_without_either() -> None:
    roles = token_roles([[(0, 3)], []], [["Bob", "Ann"], []])
    assert roles.result.tolist() == [[0], [NONE]]
    assert roles.mask.tolist() == [[True], [False]]
    assert token_roles([[]], [[]]).mask.shape == (1, 1)
    # A token of no character, and a step that is punctuation.
    roles = token_roles([[(0, 0), (0, 3)]], [["..."]])
    assert roles.role[0, 0] == NONE != roles.role[0, 1]
    assert roles.result.tolist() == [[NONE, NONE]]


def test_padding_on_either_side_gives_the_roles_of_the_text() -> None:
    task = Chain(names=5, steps=(1, 3), trace="mixed", stop=True)
    samples = encode_all(
        task.make(9, "train", 0), word_tokenizer(task.words()), Plain(prompt="answer")
    ).samples
    steps = [sample.example.steps for sample in samples]
    want = token_roles([sample.teacher_mode.cot.spans for sample in samples], steps)
    assert want.mask.sum(-1).unique().numel() > 3
    for side in ("left", "right"):
        found = batch_roles(collate(samples, 0, side).teacher_mode, steps)
        for one, other in ((found.role, want.role), (found.result, want.result), (found.mask, want.mask)):
            assert torch.equal(one, other)
    # The result is the token before the last of each step, which is the full stop.
    for sample, row in zip(samples, want.result, strict=True):
        assert [int((row == step).nonzero()) for step in range(len(sample.example.steps))] == [
            end - 1 for end in sample.teacher_mode.step_ends
        ]

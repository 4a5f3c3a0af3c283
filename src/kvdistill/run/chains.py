"""Training rows without a chain of thought of their own: which these are, and the chains that they get."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from kvdistill.data.keys import question_key
from kvdistill.data.readings import Steps, without_chain
from kvdistill.run.readings import right_chains
from kvdistill.text import Example


@dataclass(frozen=True, kw_only=True)
class ChainChoice:
    """Which training rows keep their chain of thought, and where the others get one."""

    gold_share: float = 1.0
    """Share of the questions that keep theirs."""
    seed: int = 0
    """Seed of the choice and of the draws."""
    files: tuple[str, ...] = ()
    """Files of `kvdistill sample`."""

    def apply(self, examples: Sequence[Example]) -> tuple[list[Example], str]:
        """Take chains from some rows and give chains to the rows that have none.

        Args:
            examples: the training rows.

        Returns:
            As many rows in the same order, and a note on them, empty where none changed.

        Raises:
            ValueError: if a file is missing or damaged.
        """
        if self.gold_share == 1 and not self.files:
            return list(examples), ""
        sources = {path: right_chains("data.traces", path) for path in self.files}
        kept = gold_questions(examples, self.gold_share, self.seed)
        rows: list[Example] = []
        counts = Counter[str]()
        for example in examples:
            key = question_key(example)
            if example.steps and key in kept:
                rows.append(example)
                counts["gold"] += 1
                continue
            found = self._drawn(key, sources)
            bare = without_chain(example)
            if found is None:
                rows.append(bare)
                continue
            path, steps = found
            rows.append(replace(bare, steps=steps))
            counts[path] += 1
        if counts["gold"] == len(rows):
            return rows, ""
        return rows, self._note(counts, len(rows))

    def _drawn(
        self, key: str, sources: Mapping[str, Mapping[str, tuple[Steps, ...]]]
    ) -> tuple[str, Steps] | None:
        """File and chain for a question: each distinct chain of all files is equally likely."""
        chains: dict[Steps, str] = {}
        for path, found in sources.items():
            for steps in found.get(key, ()):
                # A chain that two files have counts for the first.
                chains.setdefault(steps, path)
        if not chains:
            return None
        steps = random.Random(f"missing/{self.seed}/{key}").choice(list(chains))
        return chains[steps], steps

    def _note(self, counts: Counter[str], total: int) -> str:
        parts = [f"{counts['gold']} of {total} train examples have their own chain of thought"]
        parts += [f"{counts[path]} one of {path}" for path in self.files]
        parts.append(f"{total - counts.total()} none, and train the latents by their answers alone")
        return ", ".join(parts)


def gold_questions(examples: Sequence[Example], share: float, seed: int) -> set[str]:
    """The questions that keep their chain of thought.

    Args:
        examples: the training rows; rows of one question are treated alike.
        share: share of the distinct questions, 0 to 1.
        seed: seed of the choice.

    Returns:
        Keys of ``round(share * questions)`` questions. With a larger share the same ones and more.
    """
    keys = {question_key(example) for example in examples}

    def place(key: str) -> bytes:
        return blake2b(f"gold/{seed}/{key}".encode(), digest_size=16).digest()

    return set(sorted(keys, key=place)[: round(share * len(keys))])

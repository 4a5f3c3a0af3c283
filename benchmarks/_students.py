"""Students of several sizes with random weights and texts, for benchmarks."""

from dataclasses import dataclass

import torch
import transformers

from kvdistill.compress import RKV
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses.objective import Objective
from kvdistill.pipeline import Distillation
from kvdistill.target import NoControl, SameBridge, TargetBuilder
from kvdistill.teacher import OWN, SelfDistillation
from kvdistill.text import Batch, Padded, ReaderBatch

SLOTS, PASSES, COT = 24, 3, 64


@dataclass(frozen=True)
class Size:
    """A Llama and the batch that it is measured with."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    batches: tuple[int, ...]
    """Samples of a batch: few leave the GPU waiting for launches, many keep it busy."""

    def config(self) -> transformers.LlamaConfig:
        """Its configuration."""
        return transformers.LlamaConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.inner,
            vocab_size=self.vocabulary,
            max_position_embeddings=4096,
        )


PICO = Size("pico", 64, 2, 4, 2, 128, 512, (4,))
LARGE = (
    Size("0.1B", 768, 12, 12, 12, 2048, 32000, (32, 256)),
    Size("1B", 2048, 16, 32, 8, 8192, 128256, (16, 64)),
)


def student(size: Size, device: str, dtype: torch.dtype) -> LatentReasoner:
    """A student with random weights, the same for every dtype."""
    torch.manual_seed(0)
    with torch.device(device):
        backbone = transformers.AutoModelForCausalLM.from_config(size.config())
    special = {name: size.vocabulary - i for i, name in enumerate(("bot", "eot", "latent"), start=1)}
    config = LatentConfig(backbone=backbone.config, slots=SLOTS, passes=PASSES, special=special)
    model = LatentReasoner(config, backbone)
    return model.to(device=device, dtype=dtype)  # pyright: ignore[reportArgumentType]


def distillation(model: LatentReasoner) -> Distillation:
    """The step of KaVa: self-distillation with R-KV."""
    bridge = SameBridge({OWN: TargetBuilder(RKV(), NoControl(), SLOTS)})
    return Distillation(model, [SelfDistillation(model.geometry)], bridge, Objective())


def batch_of(size: Size, device: str, samples: int, lengths: tuple[int, int] = (40, 64)) -> Batch:
    """Random texts; questions of unlike lengths, padded on the right."""
    generator = torch.Generator().manual_seed(1)

    def some(length: int, shortest: int | None = None) -> Padded:
        ids = torch.randint(0, size.vocabulary - 3, (samples, length), generator=generator)
        ends = torch.linspace(shortest or length, length, samples).long()
        mask = torch.arange(length) < ends[:, None]
        return Padded(ids * mask, mask)

    cot, nothing = some(COT), some(0)
    ends = torch.zeros_like(cot.mask)
    ends[:, 7::8] = True
    spans = torch.zeros(samples, COT, 2, dtype=torch.long)
    step = (torch.arange(COT) // 8).expand(samples, COT)
    teacher_mode = ReaderBatch(
        some(lengths[1], lengths[0]), nothing, cot, some(4), some(5), ends, spans, step
    )
    ids = tuple(map(str, range(samples)))
    return Batch(teacher_mode.without_cot(), teacher_mode, torch.arange(samples), ids).to(device)


def one_sample(batch: Batch, index: int) -> Batch:
    """A batch of one sample, its padding cut off."""

    def part(padded: Padded) -> Padded:
        mask = padded.mask[index : index + 1]
        return Padded(padded.ids[index : index + 1][:, mask[0]], mask[:, mask[0]])

    def reader(read: ReaderBatch) -> ReaderBatch:
        parts = {name: part(getattr(read, name)) for name in ("question", "cue", "cot", "prompt", "answer")}
        rest = {name: getattr(read, name)[index : index + 1] for name in ("step_end", "spans", "step")}
        return ReaderBatch(**parts, **rest)

    return Batch(
        reader(batch.student_mode),
        reader(batch.teacher_mode),
        batch.cot_id[index : index + 1],
        batch.sample_ids[index : index + 1],
    )

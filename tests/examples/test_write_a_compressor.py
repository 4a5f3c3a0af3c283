import json
from pathlib import Path

import torch

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "write_a_compressor.ipynb"


def test_every_cell_runs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    names: dict = {"__name__": "__notebook__"}
    for cell in code:
        exec(compile("".join(cell["source"]), cell["id"], "exec", dont_inherit=True), names)
    errors = names["errors"]
    assert set(errors) == {(name, slots) for name in ("SmallKeys", "RightCrop") for slots in (8, 16, 32)}
    assert errors["SmallKeys", 32] < 1e-4 < errors["SmallKeys", 16] < errors["SmallKeys", 8]
    layer = names["kv"].layers[1]
    kept = names["SmallKeys"]().compress(names["kv"], slots=8).layers[1].positions
    smallest = layer.keys.norm(dim=-1).topk(8, largest=False).indices.sort(-1).values
    assert torch.equal(kept, smallest)

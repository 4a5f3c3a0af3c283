"""What the tests of reports share: the summary of a demo, and the cells of a section's tables."""

from kvdistill.records.schema import DemoSummary
from kvdistill.reporting.blocks import Table
from kvdistill.reporting.page import Section

SUMMARY = DemoSummary(
    cot=0.9,
    direct=0.3,
    latent_e1=0.6,
    latent_kv=0.8,
    kv_method="rkv",
    latent_by_method={"uniform": 0.7, "rkv": 0.8, "crop": 0.85},
    steps_to_90_e1=None,
    steps_to_90_kv=20,
    passes_cot=40.0,
    passes_latent=7.0,
    minutes=2.0,
    threshold=0.5,
)


def rows(section: Section) -> list[list[list[str]]]:
    """The tables of a section as plain cells."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return [
        [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows] for table in tables
    ]

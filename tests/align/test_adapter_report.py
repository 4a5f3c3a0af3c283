"""The report as text and numbers."""

from kvdistill.align.adapter_report import AdapterReport, MapReport

REPORT = AdapterReport(
    (
        MapReport(2, (4, 5), "keys", 0.75, 1e-4, 1234.0),
        MapReport(2, (4, 5), "values", 0.5, None, None),
        MapReport(3, (6,), "keys", 0.25, 1.0, 2.0),
    ),
    {"fit": 640, "choose": 160, "report": 200},
)


def test_prints_as_a_table() -> None:
    assert str(REPORT).splitlines() == [
        "tokens: 640 to fit, 160 to choose, 200 to report",
        "student layer <- teacher layers: R² (penalty, condition)",
        "2 keys <- 4, 5: 0.750 (1e-04, 1.2e+03)",
        "2 values <- 4, 5: 0.500",
        "3 keys <- 6: 0.250 (1e+00, 2.0e+00)",
    ]


def test_means_over_layers() -> None:
    assert (REPORT.mean_r2("keys"), REPORT.mean_r2("values")) == (0.5, 0.5)

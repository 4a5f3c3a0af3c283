"""The HTML head of a report: one style sheet for light and dark, screen, phone and print."""

from html import escape

from kvdistill.reporting.palette import variables

_SHEET = """
:root { color-scheme: light dark; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 52rem; background: var(--paper);
  color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; overflow-wrap: anywhere; }
p, figcaption, summary { overflow-wrap: anywhere; }
.hint { display: none; color: var(--muted); font-size: .8rem; margin: .9rem 0 0; }
.scroll { overflow-x: auto; margin: .9rem 0; }
table { border-collapse: collapse; width: 100%%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
th, .words th, .example th { overflow-wrap: normal; }
th { border-bottom: 2px solid var(--muted); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7rem;
  overflow-wrap: anywhere; }
.words td, .words th { text-align: left; white-space: normal; }
.words td { overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
svg { display: block; max-width: 100%%; height: auto; }
svg text { font-family: inherit !important; }
svg.narrow { display: none; }
figcaption { color: var(--muted); font-size: .88rem; margin-top: .3rem; }
pre { background: var(--shade); padding: .8rem; font-size: .8rem; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--muted); }
.missing { border-left: 4px solid var(--note); background: var(--shade); padding: .6rem .9rem; }
.example { border: 1px solid var(--rule); border-radius: .5rem; padding: .3rem 1rem 1rem; margin: 1rem 0;
  unicode-bidi: isolate; }
.example .asked { font-size: 1.05rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.example h3 { font-size: .82rem; font-weight: 600; color: var(--muted); margin: 1rem 0 .2rem; }
.example p { margin: .2rem 0; }
.example td, .example th { text-align: left; white-space: pre-wrap; }
.example .steps th:first-child, .example .steps td:first-child { width: 1.6rem; min-width: 0; }
.example .steps { table-layout: fixed; }
.example mark { background: none; color: inherit; font-weight: 700;
  text-decoration: underline; text-underline-offset: .2em; }
.sure { display: block; height: .3rem; margin-top: .25rem; background: var(--rule); border-radius: .15rem; }
.sure span { display: block; height: 100%%; background: var(--slate); border-radius: .15rem; }
.more { color: var(--muted); font-size: .82rem; }
.right { color: var(--good); font-weight: 600; }
.wrong { color: var(--bad); font-weight: 600; }
@media (max-width: 44rem) {
  body { font-size: 16px; }
  .hint { display: block; }
  .scroll > .numbers th:first-child, .scroll > .numbers td:first-child {
    position: sticky; left: 0; background: var(--paper); }
  .hint + .scroll { margin-top: .3rem; background:
    linear-gradient(to left, var(--paper) 1rem, transparent) right / 3rem 100%% no-repeat local,
    linear-gradient(to left, var(--rule), transparent) right / 1.2rem 100%% no-repeat scroll; }
  th, td { padding: .4rem .45rem; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
}
@media print {
  :root { color-scheme: light; %(light)s }
  body { font-size: 11pt; max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  .scroll { overflow: visible; }
  .hint { display: none; }
  table, figure, .missing, .example { break-inside: avoid; }
}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The content security policy: no scripts, and nothing is loaded from outside the file."""


def head(title: str) -> str:
    """The start of an HTML page, up to and including the ``<body>`` tag."""
    sheet = _SHEET % {"light": variables(dark=False), "dark": variables(dark=True)}
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{sheet}</style>",
        "</head>",
        "<body>",
    ]
    return "\n".join(lines)

"""How the page looks, in light and in dark: no script, no font, nothing from a network."""

# Contrast of every text with what is behind it is 4.5 or more, in both; a test computes it.
CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --raised: #f6f8fa;
  --link: #0550ae; --good: #116329; --bad: #a40e26; --warn: #7d4e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --text: #e6edf3; --soft: #9da7b3; --line: #3d444d; --raised: #161b22;
    --link: #79c0ff; --good: #56d364; --bad: #ff9b93; --warn: #e3b341;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
header, nav, main, footer { max-width: 80rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.25rem 0 .5rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: .5rem; top: .5rem; background: var(--page); padding: .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; }
dl.tiles > div { background: var(--raised); border: 1px solid var(--line); border-radius: .4rem; }
dl.tiles > div { padding: .6rem .8rem; }
dl.tiles dt { color: var(--soft); font-size: .85rem; }
dl.tiles dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem .7rem; color: var(--soft); font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-top: 1px solid var(--line); }
thead th { background: var(--raised); font-size: .85rem; }
tbody th { font-weight: 600; min-width: 9rem; max-width: 22rem; overflow-wrap: anywhere; }
td { max-width: 30rem; }
code { font-family: ui-monospace, monospace; font-size: .92em; white-space: nowrap; }
ul.problems { list-style: none; padding: 0; }
ul.problems li { border-left: .3rem solid var(--line); padding: .1rem 0 .1rem .7rem; margin: .6rem 0; }
ul.problems li { overflow-wrap: anywhere; }
ul.problems li.error { border-color: var(--bad); }
ul.problems li.warning { border-color: var(--warn); }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.soft { color: var(--soft); }
summary { cursor: pointer; padding: .25rem 0; }
meter { width: 6rem; vertical-align: middle; }
footer { color: var(--soft); padding-bottom: 2rem; margin-top: 2rem; font-size: .9rem; }
@media print { nav, .skip { display: none; } .scroll { overflow: visible; } }
"""

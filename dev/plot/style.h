// style.h: how the page looks, and its few lines of script: values under the pointer, and the choice of the axis, which survives a
// reload. Without the script everything is there but these.
#pragma once

// Eight colours that can be told apart, also by most who are colour-blind, in light and in dark.
constexpr int COLORS = 8;

inline const char* const STYLE = R"(
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --pale: #626a73; --grid: #e6e8eb; --box: #f6f7f8; --level: #2b7a4b; --bad: #c22f2f;
  --c0: #1f6fb4; --c1: #cf4a1c; --c2: #16805d; --c3: #8a4fb0; --c4: #9a6b00; --c5: #1593b0; --c6: #c2497f; --c7: #59636e; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e4e7ea; --pale: #98a1ab; --grid: #2a2f34; --box: #1d2125; --level: #62c08a; --bad: #ff7b72;
  --c0: #62aef0; --c1: #ff8a5c; --c2: #4cc79b; --c3: #c493e6; --c4: #dcaa3c; --c5: #4cc9e6; --c6: #f288b6; --c7: #a9b3be; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 32px 64px; max-width: 1240px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 26px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 16px; }
section { margin-top: 40px; }
section > h2 { font-size: 19px; margin-bottom: 10px; }
.about { margin: 6px 0 0; color: var(--pale); overflow-wrap: anywhere; }
.bad { color: var(--bad); }
dl.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 22px 0 0; }
dl.tiles div { flex: 1 1 130px; padding: 10px 14px; background: var(--box); border-radius: 8px; }
dt { color: var(--pale); font-size: 13px; }
dd { margin: 0; font-size: 20px; }
dd small { display: block; font-size: 13px; color: var(--pale); }
.choice { margin: 26px 0 0; color: var(--pale); }
.choice label { padding: 3px 10px; border: 1px solid var(--grid); border-radius: 6px; cursor: pointer; }
.axis { position: absolute; opacity: 0; }
#x-linear:checked ~ .choice label[for=x-linear], #x-logarithmic:checked ~ .choice label[for=x-logarithmic] { background: var(--ink); color: var(--paper); }
#x-linear:focus-visible ~ .choice label[for=x-linear], #x-logarithmic:focus-visible ~ .choice label[for=x-logarithmic] { outline: 2px solid var(--c0); }
#x-linear:checked ~ main .logarithmic, #x-logarithmic:checked ~ main .linear { display: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 30px 40px; margin-top: 26px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 18px; align-items: baseline; }
.legend { margin: 0; display: flex; flex-wrap: wrap; gap: 2px 16px; color: var(--pale); font-size: 14px; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 20px; height: 3px; margin-right: 6px; vertical-align: middle; background: currentColor; }
.swatch.round { width: 9px; height: 9px; border-radius: 50%; }
.swatch.bar { width: 3px; height: 13px; }
.plot { position: relative; }
output { position: absolute; top: 6px; padding: 4px 10px; font-size: 13px; white-space: pre; pointer-events: none; background: var(--box); border: 1px solid var(--grid);
  border-radius: 6px; }
output:empty { display: none; }
figure:not(.wide) .minor { display: none; }
.units { min-height: 19px; display: flex; justify-content: space-between; margin: 4px 0 0; color: var(--pale); font-size: 12.5px; }
.plot { height: 190px; margin: 8px 50px 44px; }
.plot.tokens { margin-top: 24px; }
.wide .plot { height: 400px; }
.note { margin: -4px 0 0; color: var(--pale); font-size: 13px; }
svg { overflow: visible; display: block; }
svg svg { overflow: hidden; }
svg svg.dots { overflow: visible; }
svg text { fill: var(--pale); font-size: 12.5px; }
svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; }
.grid { stroke: var(--grid); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.range { fill: currentColor; fill-opacity: .22; stroke: currentColor; stroke-opacity: .3; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.dot { stroke: currentColor; stroke-width: 8; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.dot.small { stroke-width: 5; }
.mark { fill: none; stroke: currentColor; stroke-width: 2; vector-effect: non-scaling-stroke; }
line.level { stroke: var(--level); stroke-width: 1.5; stroke-dasharray: 7 4; }
svg text.level { fill: var(--level); paint-order: stroke; stroke: var(--paper); stroke-width: 4; }
.cursor { stroke: var(--pale); stroke-dasharray: 2 3; visibility: hidden; }
.cursor.on { visibility: visible; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); } .s3 { color: var(--c3); }
.s4 { color: var(--c4); } .s5 { color: var(--c5); } .s6 { color: var(--c6); } .s7 { color: var(--c7); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 4px 22px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); overflow-wrap: break-word; max-width: 900px; }
th { font-weight: 600; white-space: nowrap; }
thead th { color: var(--pale); font-weight: 400; font-size: 13px; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--pale); }
pre { margin: 4px 0 16px; padding: 12px 16px; background: var(--box); border-radius: 8px; font: 14px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
pre b { color: var(--pale); font-weight: 400; }
.step { margin: 0; color: var(--pale); font-size: 14px; }
@media (max-width: 640px) {
  body { padding: 18px 14px 40px; }
  .plot { margin-left: 42px; margin-right: 40px; }
  .wide .plot { height: 290px; }
  dl.tiles div { flex-basis: 40%; padding: 8px 10px; }
  dd { font-size: 18px; }
  svg .minor { display: none; }
  th, td { padding-right: 12px; max-width: 60vw; }
}
@media print { .choice, output { display: none; } }
)";

// No < and no & in it: the page is well-formed XML too, which is how it is tested.
inline const char* const SCRIPT = R"(
for (const figure of document.querySelectorAll("figure")) {
  const plot = figure.querySelector(".plot"), says = figure.querySelector("output");
  const clear = () => { says.textContent = ""; for (const c of plot.querySelectorAll(".cursor")) c.classList.remove("on"); };
  plot.addEventListener("pointerleave", clear);
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 1000;
    if (x > 1000 || 0 > x) return clear();
    let text = [], at = x;
    for (const svg of plot.querySelectorAll(":scope > svg")) {
      if (getComputedStyle(svg).display == "none") continue;
      for (const line of svg.querySelectorAll("polyline")) {
        const places = line.getAttribute("points").split(" ").map(p => parseFloat(p));
        let best = 0;
        places.forEach((p, i) => { if (Math.abs(places[best] - x) > Math.abs(p - x)) best = i; });
        best = Math.min(best, line.dataset.s.split(" ").length - 1);
        if (!text.length) at = places[best], text.push("step " + line.dataset.s.split(" ")[best]);
        text.push((line.dataset.name ? line.dataset.name + " " : "") + line.dataset.v.split(" ")[best]);
      }
      const cursor = svg.querySelector(".cursor");
      cursor.setAttribute("x1", at / 10 + "%"), cursor.setAttribute("x2", at / 10 + "%"), cursor.classList.add("on");
    }
    says.textContent = text.join("\n");
    // on the side where the pointer is not
    says.style.left = at > 500 ? "8px" : "auto", says.style.right = at > 500 ? "auto" : "8px";
  });
}
for (const choice of document.querySelectorAll(".axis")) {
  const key = "llmc-axis " + location.pathname;
  try {
    if (sessionStorage.getItem(key) == choice.id) choice.checked = true;
    choice.addEventListener("change", () => sessionStorage.setItem(key, choice.id));
  } catch (refused) {}
}
)";

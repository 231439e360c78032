"""HTML page on which a rater answers: one file with the images and the script inside, which works offline."""

import base64
import json
from collections.abc import Mapping, Sequence

DATA = "/*DATA*/"


def form(identity: str, rater: str, order: Sequence[str], images: Mapping[str, bytes]) -> str:
    """Return the HTML page of a rater.

    Args:
        identity: identity of the set of images; saved answers name it.
        rater: name of the rater.
        order: names of the images in the order in which they are shown; some occur twice.
        images: name to the bytes of a PNG file.
    """
    shown = {name: base64.b64encode(images[name]).decode() for name in sorted(set(order))}
    data = {"set": identity, "rater": rater, "order": list(order), "images": shown}
    return PAGE.replace(DATA, json.dumps(data))


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Real or synthetic?</title>
<style>
  body { margin: 0; background: #16181b; color: #d5d8dc; font: 1.05rem/1.5 system-ui, sans-serif; }
  main { max-width: 46rem; margin: 0 auto; padding: 1.5rem; }
  #trial { text-align: center; }
  img { display: block; width: 100%; height: 62vh; object-fit: contain; }
  button { font: inherit; margin: .3rem; padding: .5rem 1.4rem; color: inherit; background: #2a2e33;
           border: 1px solid #4a5058; border-radius: 6px; cursor: pointer; }
  button:hover, button:focus-visible, button[aria-pressed=true] { background: #3d5a80; }
  button:disabled { opacity: .35; cursor: default; }
  .quiet { color: #8d949c; font-size: .9rem; }
</style>
<main>
  <section id="begin">
    <h1>Real or synthetic?</h1>
    <p>You will see <b class="count"></b> images, one after another. Some are real, the others were made by a computer.
       Say of each which it is, then how sure you are, from 1, a guess, to 5, certain. An answer cannot be changed, and
       the time it takes is noted. All images went through the same preparation; judge the anatomy.</p>
    <p>Nothing leaves this computer: at the end you save a file and send it to whoever gave you this page. You may close
       the page and go on later in the same browser.</p>
    <p class="quiet">Keys: R real, S synthetic, then 1 to 5.</p>
    <button id="start">Start</button>
  </section>
  <section id="trial" hidden>
    <img alt="the image to be judged">
    <p><button data-answer="real">Real</button><button data-answer="synthetic">Synthetic</button></p>
    <p>How sure?
       <button data-sure="1">1</button><button data-sure="2">2</button><button data-sure="3">3</button
       ><button data-sure="4">4</button><button data-sure="5">5</button></p>
    <p class="quiet"><span id="place"></span> of <span class="count"></span></p>
  </section>
  <section id="end" hidden>
    <h1>Thank you</h1>
    <p>Please save your answers and send the file; one of the two forms is enough.</p>
    <button id="csv">Save as CSV</button><button id="json">Save as JSON</button>
  </section>
</main>
<script>
"use strict";
const data = /*DATA*/;
const columns = ["set", "rater", "trial", "image", "answer", "confidence", "milliseconds"];
const find = (what) => document.querySelector(what), all = (what) => document.querySelectorAll(what);
const store = `turing ${data.set} ${data.rater}`;
let answers = remembered(), said = null, seen = 0, took = 0;

function remembered() {
  try { return JSON.parse(localStorage.getItem(store)) || []; } catch { return []; }
}
function remember() {
  try { localStorage.setItem(store, JSON.stringify(answers)); } catch { /* closing the page then loses the answers */ }
}
function show(name) {
  for (const part of ["begin", "trial", "end"]) find("#" + part).hidden = part !== name;
}
async function next() {
  if (answers.length >= data.order.length) return show("end");
  said = null;
  mark();
  show("trial");
  const image = find("img");
  image.src = "data:image/png;base64," + data.images[data.order[answers.length]];
  find("#place").textContent = answers.length + 1;
  await image.decode();
  seen = performance.now();
}
function mark() {
  for (const button of all("[data-answer]")) button.setAttribute("aria-pressed", button.dataset.answer === said);
  for (const button of all("[data-sure]")) button.disabled = said === null;
}
function say(answer) {
  if (!seen) return;
  said = answer;
  took = Math.round(performance.now() - seen);
  mark();
}
function sure(confidence) {
  if (said === null || !seen) return;
  seen = 0;
  answers.push({ set: data.set, rater: data.rater, trial: answers.length + 1, image: data.order[answers.length],
                 answer: said, confidence: confidence, milliseconds: took });
  remember();
  next();
}
function save(text, kind, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = `${data.set}-${data.rater}.${suffix}`;
  link.click();
}
for (const place of all(".count")) place.textContent = data.order.length;
for (const button of all("[data-answer]")) button.onclick = () => say(button.dataset.answer);
for (const button of all("[data-sure]")) button.onclick = () => sure(Number(button.dataset.sure));
find("#start").onclick = next;
find("#csv").onclick = () => save(
  [columns, ...answers.map((row) => columns.map((name) => row[name]))].map((line) => line.join(",") + "\\n").join(""),
  "text/csv", "csv");
find("#json").onclick = () => save(JSON.stringify(answers, null, 1), "application/json", "json");
document.onkeydown = (event) => {
  if (find("#trial").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "r") say("real");
  if (key === "s") say("synthetic");
  if (key >= "1" && key <= "5") sure(Number(key));
};
</script>
</html>
"""

"use strict";
// What one sees: the drawing, the answer, and three adders side by side.

const find = (id) => document.getElementById(id);
const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
// A bfloat16 is the first half of a float32.
const halves = (base64) => new Float32Array(Uint32Array.from(new Uint16Array(bytes(base64)), (half) => half << 16).buffer);

function decode(key, value) {
  if (value?.bfloat16) return halves(value.bfloat16);
  return value?.float32 ? new Float32Array(bytes(value.float32)) : value;
}

const { network, compared, withheld } = JSON.parse(find("data").textContent, decode);
const canvas = find("drawing");
const brush = canvas.getContext("2d", { willReadFrequently: true });
const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const examples = [...document.querySelectorAll("#examples img")];
const PROBABLE = 0.5; // A digit or a sum that is less probable is not sure,
const EVIDENCE = 3.1; // and neither is a digit with less evidence, in nats: 0.3 % of MNIST's held-out images have less.
const marks = []; // strokes, which are lists of points [x, y], and pictures, in the order in which they came

const hundredths = (value) => (Math.round(100 * value) / 100).toFixed(2); // toFixed alone would write -0.00
const percent = (share) => (share > 0.999 ? "over 99.9 %" : `${(100 * share).toFixed(1)} %`);
const PEN = 30; // of the canvas's 280 pixels: the widest digit's strokes are still as wide as MNIST's
const chosen = () => Number(document.querySelector("#number :checked").value);

function redraw() {
  brush.fillStyle = "white";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(brush, { lineWidth: PEN, lineCap: "round", lineJoin: "round" });
  for (const mark of marks) {
    if (mark instanceof Image) {
      brush.drawImage(mark, 0, 0, canvas.width, canvas.height);
    } else {
      brush.beginPath();
      brush.moveTo(mark[0][0] + 0.01, mark[0][1]); // so that a dot is a stroke, too
      mark.forEach(([x, y]) => brush.lineTo(x, y));
      brush.stroke();
    }
  }
  find("hint").hidden = marks.length > 0;
  answer();
}

function draw(...pictures) {
  marks.splice(0, marks.length, ...pictures);
  redraw();
}

// How far the best digit stands above the mean of the ten: far only for what looks like a digit.
const evidence = (logProbs) => Math.max(...logProbs) - logProbs.reduce((sum, value) => sum + value, 0) / 10;

// Laid out, a dot would fill the box and look like a bold 0.
const isDot = (mark) => Array.isArray(mark) && mark.every(([x, y]) => Math.hypot(x - mark[0][0], y - mark[0][1]) < PEN / 2);

function answer() {
  const pixels = layOut(canvas);
  const number = chosen();
  const outputs = pixels && run(network, pixels, number);
  const digits = outputs ? exp(outputs.log_probs) : new Array(10).fill(0);
  const sums = outputs ? exp(logSoftmax(outputs.logits)) : new Array(19).fill(0);
  const improbable = Math.min(Math.max(...digits), Math.max(...sums)) < PROBABLE;
  const unsure = outputs && (marks.every(isDot) || improbable || evidence(outputs.log_probs) < EVIDENCE);
  const sure = `It reads the digit ${argmax(digits)} (${percent(Math.max(...digits))}) and says ${argmax(sums)}.`;
  find("digit").textContent = outputs ? argmax(digits) : "?";
  find("addend").textContent = number;
  find("sum").textContent = outputs ? argmax(sums) : "?";
  find("note").className = unsure ? "unsure" : "";
  find("note").textContent = !outputs ? "Nothing is drawn yet." : unsure ? "Not sure: perhaps another digit, or none." : sure;
  showBars("digits", digits);
  showBars("sums", sums);
  showPixels(pixels ?? []);
  if (find("compare").checked) {
    Object.entries(compared).forEach(([name, other]) => compare(find(name), other, pixels, number));
  }
}

function showBars(id, shares) {
  find(id).innerHTML = shares.map((share, value) => {
    const kind = share > 0 && value === argmax(shares) ? "best" : "";
    return `<li class="${kind}" title="${percent(share)}"><div><i style="height: ${100 * share}%"></i></div>${value}</li>`;
  }).join("");
}

function showPixels(pixels) {
  const picture = new ImageData(28, 28);
  picture.data.forEach((_, i) => { picture.data[i] = i % 4 === 3 ? 255 : pixels[i >> 2] ?? 0; });
  find("pixels").getContext("2d").putImageData(picture, 0, 0);
}

// What one of the three networks says, in its card.
function compare(card, other, pixels, number) {
  const scores = pixels && read(other, pixels);
  const digit = scores ? argmax(scores) : "?";
  const sum = scores ? argmax(add(other, scores, number)) : "?";
  card.querySelector("output").textContent = `${digit} + ${number} = ${sum}`;
  card.querySelector("output").className = !scores ? "" : sum === digit + number ? "right" : "wrong";
  card.querySelectorAll("button").forEach((cell, i) => cell.classList.toggle("now", i === 10 * digit + number));
  if (other.adder.type === "line") find("numberline").innerHTML = scores ? drawLine(other.adder, digit, number) : "";
}

// The number line: an arrow from 0 to the digit's place, and the number's step from there.
function drawLine({ digitPlaces, numberPlaces }, digit, number) {
  const middle = total(digitPlaces) / 10 - 4.5; // Only both places together count: let the digits' places lie around 4.5.
  const first = digitPlaces[digit] - middle;
  const end = 9 + digitPlaces[digit] + numberPlaces[number];
  const x = (place) => 20 + 20 * place;
  const arrow = (kind, from, to, y) => `<path class="${kind}" d="M${x(from)} ${y}H${x(to)}" />
    <path class="head ${kind}" d="M${x(to)} ${y}l${8 * Math.sign(from - to)} -5v10z" />`;
  const ticks = SUMS.map((sum) => `<path d="M${x(sum)} 74v8" /><text x="${x(sum)}" y="98">${sum}</text>`);
  return `<path d="M${x(0)} 78H${x(18)}" />${ticks.join("")}${arrow("digit", 0, first, 24)}${arrow("number", first, end, 56)}
    <path class="end" d="M${x(end)} 56V78" />
    <text class="digit" x="${x(first / 2)}" y="15">digit ${digit}: ${hundredths(first)}</text>
    <text class="number" x="${x((first + end) / 2)}" y="47">number ${number}: ${hundredths(end - first)}</text>`;
}

// All hundred pairs, answered once with the ten example digits.
function showPairs(card, other, images) {
  const right = { shown: 0, withheld: 0 };
  const cells = images.flatMap((pixels, digit) => {
    const scores = read(other, pixels);
    return NUMBERS.map((number) => {
      const kind = withheld.some((pair) => pair[0] === digit && pair[1] === number) ? "withheld" : "shown";
      const sum = argmax(add(other, scores, number));
      right[kind] += sum === digit + number;
      const mark = sum === digit + number ? "right" : "wrong";
      return `<button tabindex="-1" class="${kind} ${mark}" title="${digit} + ${number}: it says ${sum}"></button>`;
    });
  });
  card.querySelector(".pairs").innerHTML = cells.join("");
  card.querySelector(".pairs").addEventListener("click", ({ target }) => {
    const pair = [...target.parentElement.children].indexOf(target);
    choose(pair % 10);
    draw(examples[Math.floor(pair / 10)]);
  });
  card.querySelector(".seen").textContent = `${right.shown} of ${100 - withheld.length}`;
  card.querySelector(".unseen").textContent = `${right.withheld} of ${withheld.length}`;
}

function choose(number) {
  document.querySelector(`#number [value="${number}"]`).checked = true;
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

const strokes = new Map(); // the one that each pointer (the mouse, the pen, a finger) is drawing
canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return; // the right button opens a menu
  canvas.setPointerCapture(event.pointerId); // so that a stroke goes on outside the box
  strokes.set(event.pointerId, [pointOf(event)]);
  marks.push(strokes.get(event.pointerId));
  redraw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  strokes.get(event.pointerId).push(...(event.getCoalescedEvents?.() ?? [event]).map(pointOf));
  redraw();
});
document.addEventListener("change", answer); // of the number or of the view
find("clear").addEventListener("click", () => draw());
find("undo").addEventListener("click", () => draw(...marks.slice(0, -1)));
examples.forEach((picture) => picture.parentElement.addEventListener("click", () => draw(picture)));
document.addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) find("undo").click();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Delete" || event.key === "Escape") draw();
  if (event.key >= "0" && event.key <= "9") {
    choose(event.key);
    answer();
  }
});

window.adder = { run: (pixels, number) => run(network, pixels, number), pixels: () => layOut(canvas), draw };
window.addEventListener("load", () => {
  if (Object.keys(compared).length) {
    const images = examples.map((picture) => {
      draw(picture);
      return layOut(canvas);
    });
    Object.entries(compared).forEach(([name, other]) => showPairs(find(name), other, images));
    find("views").hidden = false;
  }
  draw();
});

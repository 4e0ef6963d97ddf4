"use strict";
// Lay a drawing out as MNIST does: the box around it fits 20×20 pixels, its centre of mass lies at (14, 14) of 28×28.

const STRONG = 0.4; // A pixel with more ink certainly belongs to a stroke; one with less may be a stroke's soft edge.

// 784 pixels from 0 (paper) to 255 (ink), or null where nothing is drawn.
function layOut(canvas) {
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const ink = new Float32Array(width * height); // from 0 (white) to 1 (black)
  const lines = new Float32Array(height); // the most ink in each
  const columns = new Float32Array(width);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      ink[i] = 1 - data[4 * i] / 255;
      lines[y] = Math.max(lines[y], ink[i]);
      columns[x] = Math.max(columns[x], ink[i]);
    }
  }
  const full = Math.max(...lines);
  if (full < STRONG) return null;
  const [top, bottom, left, right] = boxOf(lines, columns);
  const scale = 20 / Math.max(bottom - top, right - left);
  const rowMeans = means(top, bottom, scale);
  const columnMeans = means(left, right, scale);
  const small = rowMeans.map((row) => columnMeans.map((column) => mean(ink, width, row, column) / full));
  const above = margin(small.map(total));
  const before = margin(columnMeans.map((_, x) => total(small.map((line) => line[x]))));
  const pixel = (y, x) => Math.round(255 * (small[y - above]?.[x - before] ?? 0));
  return Array.from({ length: 784 }, (_, i) => pixel(Math.floor(i / 28), i % 28));
}

// The box of all ink within one of MNIST's pixels around the strokes: its top, bottom, left and right.
function boxOf(lines, columns) {
  const strokes = [lines, columns].map((inks) => ends(inks, STRONG));
  const soft = Math.round(Math.max(...strokes.map(([first, end]) => end - first)) / 20);
  return [lines, columns].flatMap((inks, axis) => {
    const [first, end] = ends(inks, 0);
    return [Math.max(first, strokes[axis][0] - soft), Math.min(end, strokes[axis][1] + soft)];
  });
}

// Where the ink begins and ends.
function ends(inks, least) {
  const inked = [...inks.keys()].filter((index) => inks[index] > least);
  return [inked[0], inked.at(-1) + 1];
}

// For each pixel of the small box: where its pixels of the large one begin, and their weights, a triangle around it.
function means(first, end, scale) {
  const size = Math.max(1, Math.round((end - first) * scale));
  const step = (end - first) / size;
  const reach = Math.max(step, 1);
  return Array.from({ length: size }, (_, index) => {
    const middle = (index + 0.5) * step + first - 0.5;
    const start = Math.max(first, Math.ceil(middle - reach));
    const count = Math.min(end, Math.floor(middle + reach) + 1) - start;
    const weights = Array.from({ length: count }, (_, i) => 1 - Math.abs(start + i - middle) / reach);
    return { start, weights: weights.map((weight) => weight / total(weights)) };
  });
}

function mean(ink, width, row, column) {
  let sum = 0;
  row.weights.forEach((weight, y) => {
    const start = (row.start + y) * width + column.start;
    for (let x = 0; x < column.weights.length; x++) sum += weight * column.weights[x] * ink[start + x];
  });
  return sum;
}

// How many empty lines come first, so that the centre of mass comes to 14.
function margin(masses) {
  const centre = total(masses.map((mass, index) => mass * index)) / total(masses);
  return Math.min(Math.max(Math.round(14 - centre), 0), 28 - masses.length);
}

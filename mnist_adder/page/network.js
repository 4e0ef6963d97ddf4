"use strict";
// A neural network in a page of code: what PyTorch computes, in plain loops.
//
// An image is {channels, height, width, values}; its values lie in one row, channel after channel, line after line.
// A network is {mean, std, cnn, adder}. Python writes cnn as a list of layers, each {type, and what it needs}.
// The adder is {type, and what it needs}.

// Every kind of layer is a function of its settings and of an image, and returns another image.
const LAYERS = {
  // Each output channel is a sum of all input channels, shifted in every direction, each with its own weight.
  conv({ kernel, stride, padding, weight, bias }, image) {
    const input = pad(image, padding);
    const output = empty(bias.length, steps(input.height, kernel, stride), steps(input.width, kernel, stride));
    const values = output.values;
    const size = output.height * output.width;
    bias.forEach((value, channel) => values.fill(value, channel * size, (channel + 1) * size));
    weight.forEach((factor, index) => {
      const channel = Math.floor(index / kernel ** 2);
      const from = (channel % image.channels) * input.height + (Math.floor(index / kernel) % kernel); // a line
      const to = Math.floor(channel / image.channels) * output.height; // a line
      for (let y = 0; y < output.height; y++) {
        const first = (from + y * stride) * input.width + (index % kernel);
        const target = (to + y) * output.width;
        for (let x = 0; x < output.width; x++) values[target + x] += factor * input.values[first + x * stride];
      }
    });
    return output;
  },

  // Of each square of pixels, the largest.
  maxpool({ kernel, stride }, { channels, height, width, values }) {
    const output = empty(channels, steps(height, kernel, stride), steps(width, kernel, stride));
    output.values.forEach((_, index) => {
      const line = Math.floor(index / output.width);
      const top = Math.floor(line / output.height) * height + (line % output.height) * stride;
      const left = (index % output.width) * stride;
      let largest = -Infinity;
      for (let y = top; y < top + kernel; y++) {
        for (let x = left; x < left + kernel; x++) largest = Math.max(largest, values[y * width + x]);
      }
      output.values[index] = largest;
    });
    return output;
  },

  relu: (layer, image) => ({ ...image, values: image.values.map((value) => Math.max(value, 0)) }),

  // A factor and a summand for each channel: a BatchNorm, when training is over, is no more than that.
  scale({ scale, shift }, image) {
    const channel = (index) => Math.floor((index * scale.length) / image.values.length);
    return { ...image, values: image.values.map((value, i) => value * scale[channel(i)] + shift[channel(i)]) };
  },

  flatten: (layer, { values }) => row(values),

  // Each output is a weighted sum of all inputs.
  linear({ weight, bias }, { values }) {
    return row(bias.map((start, i) => {
      return values.reduce((sum, value, j) => sum + weight[i * values.length + j] * value, start);
    }));
  },
};

// The adders: from the CNN's ten scores and a number 0–9 to the scores of the 19 sums.
const ADDERS = {
  // An MLP on the digit's probabilities, sharpened until one of them is nearly 1, and on the number.
  mlp({ sharpness, layers }, scores, number) {
    const sharp = exp(logSoftmax(logSoftmax(scores).map((value) => sharpness * value)));
    return walk(layers, row([...sharp, ...oneHot(number)])).values;
  },

  // The same on the raw scores, as a published system does it.
  scores: ({ layers }, scores, number) => walk(layers, row([...scores, ...oneHot(number)])).values,

  // Digits and numbers have places on a line: the nearer a sum is to both together, the likelier it is.
  line({ digitPlaces, numberPlaces, sharpness }, scores, number) {
    const read = logSoftmax(scores);
    const table = Array.from(digitPlaces, (place, digit) => {
      const far = (sum) => sum - 9 - place - numberPlaces[number];
      return logSoftmax(SUMS.map((sum) => -sharpness * far(sum) ** 2)).map((value) => read[digit] + value);
    });
    return SUMS.map((sum) => logSumExp(table.map((given) => given[sum])));
  },

  // The sum is the digit moved up by the number. No digit makes the other nine sums: e⁻¹⁰⁰ is 0.
  exact: (adder, scores, number) => SUMS.map((sum) => logSoftmax(scores)[sum - number] ?? -100),
};

// The CNN's scores of the ten digits, for 784 pixels from 0 (paper) to 255 (ink).
function read({ mean, std, cnn }, pixels) {
  const values = Float32Array.from(pixels, (pixel) => (pixel / 255 - mean) / std);
  return [...walk(cnn, { channels: 1, height: 28, width: 28, values }).values];
}

const add = ({ adder }, scores, number) => [...ADDERS[adder.type](adder, scores, number)];

// Both outputs: the log-probabilities of the ten digits and the scores of the 19 sums.
function run(network, pixels, number) {
  const scores = read(network, pixels);
  return { log_probs: logSoftmax(scores), logits: add(network, scores, number) };
}

const walk = (layers, image) => layers.reduce((values, layer) => LAYERS[layer.type](layer, values), image);
const steps = (length, kernel, stride) => Math.floor((length - kernel) / stride) + 1;
const row = (values) => ({ channels: values.length, height: 1, width: 1, values: Float32Array.from(values) });

function empty(channels, height, width) {
  return { channels, height, width, values: new Float32Array(channels * height * width) };
}

// A border of zeros.
function pad({ channels, height, width, values }, border) {
  const padded = empty(channels, height + 2 * border, width + 2 * border);
  for (let line = 0; line < channels * height; line++) {
    const above = line + border + 2 * border * Math.floor(line / height); // lines, those of other channels' borders, too
    padded.values.set(values.subarray(line * width, (line + 1) * width), above * padded.width + border);
  }
  return padded;
}

const SUMS = Array.from({ length: 19 }, (_, sum) => sum);
const oneHot = (number) => Array.from({ length: 10 }, (_, i) => Number(i === number));
const total = (values) => values.reduce((sum, value) => sum + value, 0);
const exp = (values) => values.map(Math.exp);
const argmax = (values) => values.indexOf(Math.max(...values));

function logSumExp(values) {
  const largest = Math.max(...values); // without taking it out, exp could overflow
  return largest + Math.log(total(values.map((value) => Math.exp(value - largest))));
}

function logSoftmax(values) {
  const whole = logSumExp(values);
  return values.map((value) => value - whole);
}

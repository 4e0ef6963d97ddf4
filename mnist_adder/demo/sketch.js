// Gradio runs this once, when the sketch is on the page: `element`, `props` and `trigger` are Gradio's.
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let waiting = null;
const send = () => { waiting = null; props.value = canvas.toDataURL('image/png'); trigger('input'); };
const sendSoon = () => { waiting ??= setTimeout(send, 150); };
const clear = () => { pen.fillStyle = 'white'; pen.fillRect(0, 0, 280, 280); };
const draw = event => { pen.lineTo(event.offsetX, event.offsetY); pen.stroke(); sendSoon(); };
clear();
pen.lineWidth = 20; pen.lineCap = pen.lineJoin = 'round';
canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); pen.beginPath(); draw(event); draw(event); };
canvas.onpointermove = event => { if (event.buttons) draw(event); };
element.querySelector('button').onclick = () => { clear(); sendSoon(); };
for (const image of element.querySelectorAll('img'))
  image.onclick = () => { pen.drawImage(image, 0, 0, 280, 280); sendSoon(); };

// Gradio runs this once, when the sketch is on the page: `element`, `props` and `trigger` are Gradio's.
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let waiting = null;
const send = () => { waiting = null; props.value = canvas.toDataURL('image/png'); trigger('input'); };
const sendSoon = () => { waiting ??= setTimeout(send, 150); };
const clear = () => { pen.fillStyle = 'white'; pen.fillRect(0, 0, canvas.width, canvas.height); };
const draw = event => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  pen.lineTo((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
  pen.stroke();
  sendSoon();
};
clear();
pen.lineWidth = 20; pen.lineCap = pen.lineJoin = 'round';
canvas.addEventListener('pointerdown', event => {
  canvas.setPointerCapture(event.pointerId); pen.beginPath(); draw(event); draw(event);
});
canvas.addEventListener('pointermove', event => { if (event.buttons) draw(event); });
element.querySelector('button').addEventListener('click', () => { clear(); sendSoon(); });
element.querySelectorAll('img').forEach(image => image.addEventListener('click', () => {
  pen.drawImage(image, 0, 0, canvas.width, canvas.height); sendSoon();
}));

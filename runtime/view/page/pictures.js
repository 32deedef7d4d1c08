// The stream of pictures: reads multipart/x-mixed-replace and draws the newest part.

const HEAD_END = [13, 10, 13, 10];

/** Place of the empty line that ends a part's head, or -1. */
function headEnd(bytes, from) {
  for (let at = bytes.indexOf(13, from); at >= 0 && at + 4 <= bytes.length; at = bytes.indexOf(13, at + 1)) {
    if (HEAD_END.every((byte, place) => bytes[at + place] === byte)) return at;
  }
  return -1;
}

/** The newest whole picture in `bytes`, if there is one, and what is left behind it. */
export function cut(bytes) {
  let newest = null, start = 0;
  for (;;) {
    const end = headEnd(bytes, start);
    if (end < 0) break;
    const length = /content-length: *(\d+)/i.exec(new TextDecoder().decode(bytes.subarray(start, end)));
    if (!length) throw new Error("a part of the stream does not tell its length");
    const stop = end + 4 + Number(length[1]);
    if (stop > bytes.length) break;
    newest = bytes.subarray(end + 4, stop);
    start = stop;
  }
  return [newest, bytes.subarray(start)];
}

function joined(first, second) {
  if (!first.length) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** Draws a stream into a canvas until it is stopped, ends or breaks. */
export class Pictures {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onPicture: () => void, onEnd: () => void}} tell `onEnd` is not called after `stop`.
   */
  constructor(canvas, tell) {
    this.canvas = canvas;
    this.tell = tell;
    this.abort = null;
    this.drawnMs = 0;
  }

  get open() { return this.abort !== null; }

  start() {
    const abort = this.abort = new AbortController();
    this.drawnMs = performance.now();
    this.run(abort.signal).catch(() => {}).then(() => {
      if (abort !== this.abort) return;
      this.abort = null;
      this.tell.onEnd();
    });
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }

  async run(signal) {
    const answer = await fetch("/stream.mjpg", { signal });
    if (!answer.ok) return;
    const reader = answer.body.getReader();
    let bytes = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const [newest, rest] = cut(joined(bytes, value));
      bytes = rest;
      if (newest) await this.draw(newest, signal);
    }
  }

  async draw(jpeg, signal) {
    const image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    if (!signal.aborted) {
      const { canvas } = this;
      if (canvas.width !== image.width || canvas.height !== image.height) {
        canvas.width = image.width;
        canvas.height = image.height;
      }
      canvas.getContext("2d").drawImage(image, 0, 0);
      this.drawnMs = performance.now();
      this.tell.onPicture();
    }
    image.close();
  }
}

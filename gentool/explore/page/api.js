// Requests to the program on this machine. Each either answers, or throws a sentence.

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program does not answer. Start gentool explore again.");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `The program answered with status ${answer.status}.`);
  }
  return answer;
}

const asJson = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

export const get = async (path) => (await ask(path, {})).json();

export const post = async (path, body, signal) => (await ask(path, asJson(body, signal))).json();

// Pixels of pictures, or null if the program has dropped the request as outdated.
async function pixels(path, body, signal) {
  const answer = await ask(path, asJson(body, signal));
  return answer.status === 204 ? null : new Uint8Array(await answer.arrayBuffer());
}

export const draw = (pictures, signal) => pixels("/draw", { pictures }, signal);
export const sketch = (pictures, signal) => pixels("/sketch", { pictures }, signal);
export const original = (photo) => pixels("/original", { photo });

// A file to save: {blob, name}.
export async function file(path, pictures) {
  const answer = await ask(path, asJson({ pictures }));
  const told = answer.headers.get("Content-Disposition") ?? "";
  const name = /filename="([^"]+)"/.exec(told)?.[1] ?? "gentool-explore";
  return { blob: await answer.blob(), name };
}

export async function sendPhoto(blob) {
  const options = { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: blob };
  return (await ask("/photo", options)).json();
}

// One request at a time: while one runs, only the newest of the others waits.
export class Latest {
  constructor(work) {
    this.work = work;
    this.waiting = null;
    this.running = false;
  }

  async ask(value) {
    this.waiting = { value };
    if (this.running) return;
    this.running = true;
    try {
      while (this.waiting) {
        const { value: next } = this.waiting;
        this.waiting = null;
        await this.work(next);
      }
    } finally {
      this.running = false;
    }
  }
}

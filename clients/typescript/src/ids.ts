// The ids that a client creates: idempotency keys, and the message ids that the server derives from them.

/** The namespace of every derived id, as the server documents it. */
const NAMESPACE = '8f1d6c5e-3b0a-4e5c-9d27-5a4c7e21b6f0';

/** Creates a UUID of version 7 (RFC 9562), which sorts by its time. */
export function uuidV7(now: number = Date.now()): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 0; i < 6; i += 1) bytes[i] = Math.floor(now / 2 ** (8 * (5 - i))) % 256;
  return format(bytes, 7);
}

/**
 * The id that the server will give a message, derived from its conversation, sender and key. The client knows it before
 * it sends the message, and recognizes the message whichever comes first: the response or the delivery.
 */
export function messageId(conversationId: string, senderId: string, key: string): string {
  return uuidV5(JSON.stringify([conversationId, senderId, key, 'message']));
}

/** A UUID of version 5 (RFC 9562) under the server's namespace. */
function uuidV5(name: string): string {
  const namespace = NAMESPACE.replaceAll('-', '').match(/../g) ?? [];
  const bytes = [...namespace.map((byte) => parseInt(byte, 16)), ...new TextEncoder().encode(name)];
  return format(sha1(Uint8Array.from(bytes)).slice(0, 16), 5);
}

/** Sets the version and the variant of a UUID, and writes it in the usual form. */
function format(bytes: Uint8Array, version: number): string {
  const at = (i: number): number => bytes[i] ?? 0;
  bytes[6] = (at(6) % 16) + version * 16;
  bytes[8] = (at(8) % 64) + 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/**
 * SHA-1 (RFC 3174). The browser's implementation is asynchronous and needs a secure origin, but the client shows a
 * message at once, also on a plain http address in a local network.
 */
function sha1(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array((Math.floor((data.length + 8) / 64) + 1) * 64);
  padded.set(data);
  padded[data.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, data.length * 8);
  const state = new Uint32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
  const words = new Uint32Array(80);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 80; i += 1) {
      const mixed = wordAt(words, i - 3) ^ wordAt(words, i - 8) ^ wordAt(words, i - 14) ^ wordAt(words, i - 16);
      words[i] = i < 16 ? view.getUint32(block + i * 4) : rotateLeft(mixed, 1);
    }
    compress(state, words);
  }
  const digest = new DataView(new ArrayBuffer(20));
  state.forEach((value, i) => digest.setUint32(i * 4, value));
  return new Uint8Array(digest.buffer);
}

function compress(state: Uint32Array, words: Uint32Array): void {
  let [a, b, c, d, e] = [0, 1, 2, 3, 4].map((i) => wordAt(state, i)) as [number, number, number, number, number];
  for (let i = 0; i < 80; i += 1) {
    const [mix, constant] = i < 20 ? [(b & c) | (~b & d), 0x5a827999]
      : i < 40 ? [b ^ c ^ d, 0x6ed9eba1]
        : i < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
          : [b ^ c ^ d, 0xca62c1d6];
    const next = (rotateLeft(a, 5) + mix + e + wordAt(words, i) + constant) >>> 0;
    [e, d, c, b, a] = [d, c, rotateLeft(b, 30), a, next];
  }
  [a, b, c, d, e].forEach((value, i) => { state[i] = wordAt(state, i) + value; });
}

const wordAt = (words: Uint32Array, i: number): number => words[i] ?? 0;
const rotateLeft = (value: number, by: number): number => ((value << by) | (value >>> (32 - by))) >>> 0;

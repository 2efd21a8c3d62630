// The official Socket.IO client, controlled by a test with JSON lines on stdin and stdout.
//
// First line: {"url":"http://127.0.0.1:PORT","token":"…","transports":["websocket"],"sockets":1}
//   also: "auth" (instead of {token}), "options" (more options of the client), "sockets": n (lines then have "socket": i),
//         "tokens" (one socket for each; instead of "token" and "sockets")
// Then:       {"do":"emit","name":"…","args":[…],"ack":true,"id":7}, {"do":"connect"}, {"do":"disconnect"},
//             {"do":"drop"} (cuts the transport; the client then reconnects), {"do":"exit"}
//   each for the first socket, or for "socket": i
// Output:     {"at":"connect"|"upgrade"|"connect_error"|"disconnect"|"event"|"ack"|"ack_timeout"|"bad_line", …}

import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const ACK_MS = 5000;

/** Writes a line synchronously and waits while the pipe is full: no line may be lost or cut. */
function print(line) {
  let rest = Buffer.from(`${JSON.stringify(line)}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code === 'EPIPE') process.exit(0);
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}

const count = (config) => config.tokens?.length ?? config.sockets ?? 1;

function open(config, index) {
  const socket = io(config.url, {
    auth: config.auth ?? { token: config.tokens?.[index] ?? config.token },
    transports: config.transports ?? ['websocket'],
    forceNew: true, // otherwise the sockets share one connection
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
    query: { client: randomUUID() }, // nginx routes the polls of a client to one node by this id
    ...config.options,
  });
  const which = count(config) > 1 ? { socket: index } : {};
  const say = (line) => print({ ...line, ...which });
  socket.on('connect', () => say({ at: 'connect', id: socket.id, transport: socket.io.engine.transport.name }));
  socket.io.on('open', () => socket.io.engine.on('upgrade', ({ name }) => say({ at: 'upgrade', transport: name })));
  socket.on('connect_error', (error) => say({ at: 'connect_error', message: error.message, data: error.data }));
  socket.on('disconnect', (reason) => say({ at: 'disconnect', reason }));
  socket.onAny((name, ...args) => say({ at: 'event', name, args, time: Date.now() }));
  return { socket, say };
}

function emit({ socket, say }, { name, args = [], ack = false, id }) {
  if (!ack) {
    socket.emit(name, ...args);
    return;
  }
  socket.timeout(ACK_MS).emit(name, ...args, (error, ...answer) => {
    say(error ? { at: 'ack_timeout', id } : { at: 'ack', id, args: answer });
  });
}

function obey(sockets, order) {
  const one = sockets[order.socket ?? 0];
  const orders = {
    emit: () => emit(one, order),
    connect: () => one.socket.connect(),
    disconnect: () => one.socket.disconnect(),
    drop: () => one.socket.io.engine?.close(),
    exit: () => process.exit(0),
  };
  if (!one || !Object.hasOwn(orders, order.do)) throw new Error(`no such order: ${JSON.stringify(order)}`);
  orders[order.do]();
}

let sockets = null;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (!line.trim()) return;
  try {
    const order = JSON.parse(line);
    if (sockets) obey(sockets, order);
    else sockets = Array.from({ length: count(order) }, (_, index) => open(order, index));
  } catch (error) {
    print({ at: 'bad_line', message: error.message });
  }
});
lines.on('close', () => process.exit(0));

// Peer of F2: live series as they are usually written in Node: graphql-ws over ws, graphql-js, an async generator and a
// queue for each subscriber. `node graphql_ws.mjs PORT`, words on stdin as bench/driving.py says; who says which key in
// connection_init is of that key's tenant, and nothing is checked.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(new URL('../../tests/clients/package.json', import.meta.url));
const { buildSchema } = require('graphql');
const { useServer } = require('graphql-ws/use/ws');
const { WebSocketServer } = require('ws');

const schema = buildSchema(`
  scalar JSON
  scalar DateTime
  input TimeRange { last: String! }
  input MetricQuery { metric: String! range: TimeRange! interval: String! }
  type SeriesFrame { kind: String! seq: Int! epoch: String! cursor: String! watermark: DateTime! columns: JSON! }
  type Query { hello: String }
  type Subscription { series(query: MetricQuery!): SeriesFrame! }
`);

const queues = new Map();
const numbers = new Map();
const nowMicroseconds = () => Number(process.hrtime.bigint() / 1000n);

function frameOf(kind, seq, number) {
  const minute = Math.floor(Date.now() / 60_000) * 60_000;
  const epoch = '0123456789abcdef0123456789abcdef';
  const columns = { timestamps: [minute], series: [{ labels: {}, values: [number], total: number }] };
  return { kind, seq, epoch, cursor: `${epoch}.${seq}`, watermark: new Date().toISOString(), columns };
}

class Queue {
  items = [];
  waiting = null;

  push(item) {
    if (this.waiting) {
      const resolve = this.waiting;
      this.waiting = null;
      resolve(item);
    } else this.items.push(item);
  }

  next() {
    return this.items.length ? this.items.shift() : new Promise((resolve) => (this.waiting = resolve));
  }
}

async function* listen(tenant) {
  const queue = new Queue();
  if (!queues.has(tenant)) queues.set(tenant, new Set());
  queues.get(tenant).add(queue);
  try {
    yield { series: frameOf('SNAPSHOT', 1, nowMicroseconds()) };
    while (true) yield { series: frameOf('DELTA', ...(await queue.next())) };
  } finally {
    queues.get(tenant).delete(queue);
  }
}

schema.getSubscriptionType().getFields().series.subscribe = (_, __, context) =>
  listen(context.connectionParams.authorization);

function sayToAll(number) {
  for (const [tenant, listeners] of queues) {
    numbers.set(tenant, (numbers.get(tenant) ?? 1) + 1);
    for (const queue of listeners) queue.push([numbers.get(tenant), number]);
  }
}

function isTaken() {
  for (const listeners of queues.values()) for (const queue of listeners) if (!queue.waiting) return false;
  return true;
}

let timer = null;
let isFlood = false;

function flood() {
  if (!isFlood) return;
  if (isTaken()) sayToAll(nowMicroseconds());
  setImmediate(flood);
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [word, rate] = line.split(' ');
    clearInterval(timer);
    isFlood = word === 'flood';
    if (isFlood) flood();
    else if (Number(rate) > 0) timer = setInterval(() => sayToAll(nowMicroseconds()), 1000 / Number(rate));
  })
  .on('close', () => process.exit(0));

const server = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', path: '/graphql', backlog: 2048 });
useServer({ schema, context: (ctx) => ({ connectionParams: ctx.connectionParams }) }, server);

// Peer of Q1: the same screen by graphql-yoga on Node's own HTTP server: lists of objects, from memory, its defaults.
// Started by the runner as `node bench/peers/yoga.mjs <port>`; its packages are those of tests/clients.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const require = createRequire(new URL('../../tests/clients/package.json', import.meta.url));
const { createSchema, createYoga } = require('graphql-yoga');

const POINTS = 1440;
const start = Math.floor(Date.now() / 60000) * 60000 - POINTS * 60000;
const points = Array.from({ length: POINTS }, (_, n) => ({ t: new Date(start + n * 60000).toISOString(), v: n % 97 }));
const series = { points, total: 1 };

const yoga = createYoga({
  logging: false,
  schema: createSchema({
    typeDefs: `
      type Point { t: String! v: Float! }
      type Series { points: [Point!]! total: Float! }
      type Query { series(metric: String!): Series! }
    `,
    resolvers: { Query: { series: async () => series } },
  }),
});

createServer(yoga).listen(Number(process.argv[2]), '127.0.0.1');

// urql with graphql-ws: reads a series by a query, then a snapshot and a delta by a subscription. Prints one line of
// JSON for each; after the snapshot the caller sends an event.
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, key] = process.argv.slice(2);
const authorization = `Bearer ${key}`;
const sockets = createClient({
  url: url.replace('http', 'ws'),
  webSocketImpl: WebSocket,
  connectionParams: { authorization },
});
const client = new Client({
  url,
  preferGetMethod: false,
  exchanges: [
    cacheExchange,
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: (request) => ({
        subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ ...request, query: request.query ?? '' }, sink) }),
      }),
    }),
  ],
  fetchOptions: { headers: { authorization } },
});
const question = { metric: 'events', range: { last: '1h' }, interval: 'MINUTE' };
const say = (kind, value) => console.log(JSON.stringify({ kind, ...value }));
const fail = (error) => {
  say('ERROR', { message: String(error) });
  process.exit(1);
};

const read = await client
  .query('query($q: MetricQuery!) { series(query: $q) { columns source series { total } } }', { q: question })
  .toPromise();
if (read.error) fail(read.error);
say('QUERY', read.data.series);

client
  .subscription('subscription($q: MetricQuery!) { series(query: $q) { kind seq columns } }', { q: question })
  .subscribe((result) => {
    if (result.error) fail(result.error);
    if (result.data) say(result.data.series.kind, result.data.series);
    if (result.data?.series.kind === 'DELTA') process.exit(0);
  });
setTimeout(() => fail('no delta within 20 s'), 20_000);

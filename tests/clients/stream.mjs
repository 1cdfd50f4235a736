// graphql-sse in its distinct connections mode: a query, then a snapshot and a delta of a subscription. Prints one line
// of JSON for each; after the snapshot the caller sends an event.
import { createClient } from 'graphql-sse';

const [url, key] = process.argv.slice(2);
const client = createClient({
  url: `${url}/stream`,
  singleConnection: false,
  retryAttempts: 0,
  headers: { authorization: `Bearer ${key}` },
});
const question = { metric: 'events', range: { last: '1h' }, interval: 'MINUTE' };
const say = (kind, value) => console.log(JSON.stringify({ kind, ...value }));
setTimeout(() => {
  say('ERROR', { message: 'no delta within 20 s' });
  process.exit(1);
}, 20_000);

const variables = { q: question };
for await (const result of client.iterate({
  query: 'query($q: MetricQuery!) { series(query: $q) { columns } }',
  variables,
})) {
  say('QUERY', result.data.series);
}
for await (const result of client.iterate({ query: '{ nope }' })) {
  say('REFUSED', { code: result.errors[0].extensions.code });
}
const frames = client.iterate({
  query: 'subscription($q: MetricQuery!) { series(query: $q) { kind seq columns } }',
  variables,
});
for await (const result of frames) {
  say(result.data.series.kind, result.data.series);
  if (result.data.series.kind === 'DELTA') break;
}
client.dispose();
process.exit(0);

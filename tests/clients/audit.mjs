// The audit of GraphQL over HTTP by the graphql-http package; exits 1 on any error or warning. Its notices are of
// queries by GET, which the specification leaves open (MAY) and this server does not take.
import { auditServer } from 'graphql-http';

const [url, key] = process.argv.slice(2);
const results = await auditServer({
  url,
  fetchFn: (address, init) =>
    fetch(address, { ...init, headers: { ...init?.headers, authorization: `Bearer ${key}` } }),
});
const count = (status) => results.filter((result) => result.status === status).length;
for (const result of results.filter((result) => result.status !== 'ok')) {
  console.log(`${result.status} ${result.id} ${result.name}: ${result.reason}`);
}
console.log(`${results.length} audits: ${count('error')} errors, ${count('warn')} warnings, ${count('notice')} notices`);
process.exit(count('error') + count('warn') ? 1 : 0);

// A rule of graphql-inspector's diff: a breaking change that CHANGELOG.md declares under "Unreleased" is let pass, by a
// line `- Breaking: Type.field …` (or `Type`, `Type.field.argument`), of which the changelog may hold any number.
const { readFileSync } = require('node:fs');
const { join } = require('node:path');

const changelog = process.env.CHANGELOG ?? join(__dirname, '../../CHANGELOG.md');
const [, unreleased = ''] = readFileSync(changelog, 'utf8').split(/^## Unreleased$/m);
const current = unreleased.split(/^## /m)[0];
const declared = new Set([...current.matchAll(/^- Breaking: `?([A-Za-z0-9_.]+)`?/gm)].map((match) => match[1]));

module.exports = ({ changes }) =>
  changes.map((change) =>
    change.criticality.level === 'BREAKING' && declared.has(change.path)
      ? { ...change, criticality: { level: 'DANGEROUS', reason: 'declared in CHANGELOG.md' } }
      : change,
  );

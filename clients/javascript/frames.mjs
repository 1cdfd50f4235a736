// Live frames of CloudMetrics, merged: what `series`, `seriesSet` and GET /api/stream/series send, in a browser or Node.
//
//   const screen = new Screen();
//   screen.take(frame);            // each frame as it comes; `screen.charts[0]` is then what a query answers
//   screen.cursor                  // for `resumeFrom`, or Last-Event-ID
//
// A chart is {timestamps: [ms...], series: [{labels, values, total}], from, to, fault}.

/** Everything that frames say of a stream: one chart a question. */
export class Screen {
  charts = [];
  cursor = null;
  watermark = null;
  /** Whether a SNAPSHOT is awaited: at first, and after a GAP. What is shown until then may lack something. */
  isStale = true;
  #last = null;

  /** Takes a frame; throws Missed when one before it did not come: open the stream anew with `cursor`. */
  take(frame) {
    const last = this.#last;
    const follows = !last || last.kind === 'GAP' || last.epoch !== frame.epoch || frame.seq === last.seq + 1;
    if (!follows && frame.kind !== 'GAP' && frame.kind !== 'SNAPSHOT') throw new Missed(last, frame);
    this.#last = frame;
    this.cursor = frame.cursor;
    this.watermark = frame.watermark ?? this.watermark;
    if (frame.kind === 'GAP') this.isStale = true;
    if (frame.kind === 'SNAPSHOT') this.isStale = false;
    for (const change of changesOf(frame)) {
      const before = frame.kind === 'SNAPSHOT' ? undefined : this.charts[change.index];
      this.charts[change.index] = merged(before, change);
    }
    return this;
  }
}

/** A frame is missing between two. */
export class Missed extends Error {
  constructor(last, frame) {
    super(`After frame ${last.seq} came ${frame.seq}`);
  }
}

/** A frame of `series` has its columns itself; one of a set has them by question. */
function changesOf(frame) {
  if (frame.changes) return frame.changes;
  if (frame.kind === 'GAP' || frame.kind === 'HEARTBEAT') return [];
  return [{ index: 0, columns: frame.columns, from: frame.from, to: frame.to }];
}

/** A chart after a change: its series are those of the change, in its order; buckets before `from` are gone. */
export function merged(before, { columns, from, to, fault = null }) {
  if (fault) return { timestamps: [], series: [], ...before, fault };
  const first = from ? Date.parse(from) : -Infinity;
  const old = new Map((before?.series ?? []).map((series) => [nameOf(series), series]));
  const kept = (before?.timestamps ?? []).map((stamp, n) => [stamp, n]).filter(([stamp]) => stamp >= first);
  const timestamps = [...new Set([...kept.map(([stamp]) => stamp), ...columns.timestamps])].sort((a, b) => a - b);
  const series = columns.series.map((line) => {
    const known = old.get(nameOf(line));
    const values = new Map(known ? kept.map(([stamp, n]) => [stamp, known.values[n]]) : []);
    columns.timestamps.forEach((stamp, n) => values.set(stamp, line.values[n]));
    return { labels: line.labels, values: timestamps.map((stamp) => values.get(stamp) ?? null), total: line.total };
  });
  return { timestamps, series, from, to, fault: null };
}

function nameOf(series) {
  return JSON.stringify(Object.entries(series.labels).sort());
}

/**
 * Follows saved questions over GET /api/stream/series for ever: calls `onChange(screen, frame)` after each frame, and
 * comes back after a cut where it was. `authorization()` gives the header anew each time, as tokens expire. Ends, by
 * throwing, only where coming back would not help, or when `signal` aborts.
 */
export async function follow({ url, questions, authorization, onChange, signal, screen = new Screen() }) {
  const address = new URL('/api/stream/series', url);
  for (const id of questions) address.searchParams.append('question', id);
  for (let wait = 1000; !signal?.aborted; ) {
    try {
      const headers = { Authorization: await authorization(), Accept: 'text/event-stream' };
      if (screen.cursor) headers['Last-Event-ID'] = screen.cursor;
      const answer = await fetch(address, { headers, signal });
      if (!answer.ok) await refuse(answer);
      for await (const { event, data } of eventsOf(answer.body)) {
        if (event === 'refused') throw new Refused(401, JSON.parse(data).error);
        if (event !== 'message') break;
        const frame = JSON.parse(data);
        onChange(screen.take(frame), frame);
        wait = 1000;
      }
    } catch (error) {
      if (signal?.aborted) return screen;
      if (error instanceof Refused && !error.mayPass) throw error;
      if (error instanceof Refused && error.seconds) wait = error.seconds * 1000;
    }
    // Not all at once: a server that comes back has many to serve.
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
    wait = Math.min(wait * 2, 30_000);
  }
  return screen;
}

/** The server's refusal, with its `code`; `mayPass`: the same may be answered later. */
export class Refused extends Error {
  constructor(status, { code, message }, seconds = 0) {
    super(message);
    this.code = code;
    this.seconds = seconds;
    this.mayPass = status === 429 || status >= 500 || code === 'token_expired';
  }
}

async function refuse(answer) {
  const { error } = await answer.json().catch(() => ({ error: { code: 'unknown', message: answer.statusText } }));
  throw new Refused(answer.status, error, Number(answer.headers.get('retry-after')) || 0);
}

/** The events of a body; see "Parsing an event stream" in the HTML standard. */
export async function* eventsOf(body) {
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of body) {
    text += decoder.decode(bytes, { stream: true });
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      let [event, data] = ['message', ''];
      for (const line of text.slice(0, end).split('\n')) {
        if (line.startsWith('event: ')) event = line.slice(7);
        if (line.startsWith('data: ')) data += line.slice(6);
      }
      if (data) yield { event, data };
    }
  }
}

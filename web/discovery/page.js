// Search over /v1/relays. The address of the page holds the search, so that it can be kept and sent.
const PAGE = 50;
const DESCENDING = new Set(['speed', 'uptime']);
const form = document.getElementById('search');
const rows = document.getElementById('relays');
const status = document.getElementById('status');
const previous = document.getElementById('previous');
const next = document.getElementById('next');
let sort = 'speed';
let offset = 0;
let running = null;

const cell = (row, text, style) => {
  const td = row.insertCell();
  td.textContent = text;
  if (style) td.className = style;
  return td;
};

const mbit = (relay) => {
  if (relay.mbit === null) return '–';
  return relay.mbit >= 10 ? String(Math.round(relay.mbit)) : relay.mbit.toFixed(1);
};

const span = (hours) => (hours >= 48 ? `${Math.floor(hours / 24)} d` : `${hours} h`);

function show(relay) {
  const row = rows.insertRow();
  const name = document.createElement('th');
  name.scope = 'row';
  name.textContent = relay.name ?? '(no name)';
  row.append(name);
  const country = cell(row, relay.country ?? '–', relay.country_wrong ? 'wrong' : '');
  if (relay.country_wrong) country.append(' (its address says otherwise)');
  cell(row, relay.roles.join(', '));
  cell(row, mbit(relay), 'number').title =
    relay.declared_mbit === null ? '' : `declares ${relay.declared_mbit} Mbit/s`;
  cell(row, relay.alive && relay.last_checked !== null ? span(relay.uptime_h) : '–', 'number');
  if (relay.last_checked === null) cell(row, relay.alive ? 'serves this page' : 'not checked', 'soft');
  else cell(row, relay.alive ? 'answers' : 'silent', relay.alive ? 'up' : 'down');
  cell(row, relay.provider ?? '–', relay.provider ? '' : 'soft');
  cell(row, relay.identity.slice(0, 16), 'identity').title = relay.identity;
}

function wishes() {
  const wish = new URLSearchParams();
  for (const [key, value] of new FormData(form)) {
    if (value.trim() !== '') wish.set(key, value.trim());
  }
  if (sort !== 'speed') wish.set('sort', sort);
  if (offset > 0) wish.set('offset', String(offset));
  return wish;
}

function markSort() {
  for (const th of document.querySelectorAll('th[data-sort]')) {
    if (th.dataset.sort !== sort) th.removeAttribute('aria-sort');
    else th.setAttribute('aria-sort', DESCENDING.has(sort) ? 'descending' : 'ascending');
  }
}

async function ask(path, signal) {
  const reply = await fetch(path, { signal, credentials: 'omit' });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error ?? `status ${reply.status}`);
  return body;
}

async function search() {
  running?.abort();
  running = new AbortController();
  const wish = wishes();
  history.replaceState(null, '', wish.size === 0 ? '/' : `/?${wish}`);
  markSort();
  try {
    const found = await ask(`/v1/relays?limit=${PAGE}&${wish}`, running.signal);
    rows.replaceChildren();
    found.relays.forEach(show);
    const last = found.offset + found.relays.length;
    status.textContent = found.relays.length === 0
      ? `${found.total === 0 ? 'No relay fits.' : 'No more relays.'}`
      : `${found.offset + 1} to ${last} of ${found.total}`;
    previous.disabled = found.offset === 0;
    next.disabled = last >= found.total;
  } catch (error) {
    if (error.name !== 'AbortError') status.textContent = `That did not work: ${error.message}`;
  }
}

async function describeNetwork() {
  const n = await ask('/v1/network');
  document.getElementById('network').textContent = n.name ? `of ${n.name}` : '';
  document.getElementById('numbers').textContent =
    `${n.relays} known, ${n.alive} answering, ${n.roles.exit} exits in ` +
    `${Object.keys(n.countries).length} countries, ${Math.round(n.mbit)} Mbit/s measured`;
  document.getElementById('snapshot').textContent = n.snapshot === null
    ? 'No snapshot yet.'
    : `Snapshot of ${new Date(n.snapshot.hour * 3600000).toISOString().slice(0, 16).replace('T', ' ')} UTC, ` +
      `${n.snapshot.entries} relays, digest ${n.snapshot.digest.slice(0, 16)}…`;
  const list = form.elements.country;
  const wanted = list.value || new URLSearchParams(location.search).get('country')?.toUpperCase();
  for (const [country, count] of Object.entries(n.countries).sort()) {
    list.add(new Option(`${country} (${count})`, country));
  }
  if (wanted) list.value = wanted;
}

function restore() {
  const wish = new URLSearchParams(location.search);
  for (const name of ['q', 'role', 'min_mbit', 'min_uptime_h']) {
    if (wish.has(name)) form.elements[name].value = wish.get(name);
  }
  form.elements.alive.checked = wish.get('alive') === '1';
  sort = document.querySelector(`th[data-sort="${CSS.escape(wish.get('sort') ?? '')}"]`)?.dataset.sort ?? 'speed';
  offset = Math.max(0, Number.parseInt(wish.get('offset') ?? '0', 10) || 0);
}

function again() {
  offset = 0;
  search();
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  again();
});
form.addEventListener('change', again);
for (const th of document.querySelectorAll('th[data-sort]')) {
  th.querySelector('button').addEventListener('click', () => {
    sort = th.dataset.sort;
    again();
  });
}
previous.addEventListener('click', () => {
  offset = Math.max(0, offset - PAGE);
  search();
});
next.addEventListener('click', () => {
  offset += PAGE;
  search();
});

restore();
try {
  await describeNetwork();
} catch (error) {
  document.getElementById('numbers').textContent = `The network is not known: ${error.message}`;
}
await search();

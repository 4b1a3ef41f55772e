(() => {
'use strict';
const make = (name, parts = {}, ...children) => {
  const element = Object.assign(document.createElement(name), parts);
  element.append(...children);
  return element;
};
const root = document.documentElement;

// Colours: as the system says, or as chosen here. Pages from a file may have no storage.
const KEY = 'whimbrel-theme';
const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const choose = (theme) => {
  if (theme === 'auto') delete root.dataset.theme; else root.dataset.theme = theme;
  try { localStorage.setItem(KEY, theme); } catch { /* not kept, then */ }
};
const themes = ['auto', 'light', 'dark'];
const start = themes.includes(stored()) ? stored() : 'auto';
if (start !== 'auto') root.dataset.theme = start;
const theme = make('fieldset', { className: 'theme' }, make('legend', {}, 'Colours'));
for (const name of themes) {
  const input = make('input', { type: 'radio', name: 'theme', value: name, checked: name === start });
  input.addEventListener('change', () => choose(name));
  theme.append(make('label', {}, input, make('span', {}, name)));
}
document.querySelector('header').prepend(theme);

// Tables.
const order = new Intl.Collator('en', { numeric: true }).compare;
let tables = 0;
for (const box of document.querySelectorAll('.sorts')) {
  const table = box.querySelector('table');
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((row) => ({
    row,
    texts: [...row.cells].map((cell) => cell.textContent),
    keys: [...row.cells].map((cell) => (cell.dataset.v === undefined ? NaN : Number(cell.dataset.v))),
    all: row.textContent.toLowerCase(),
  }));
  const id = `table-${(tables += 1)}`;
  const status = make('p', { className: 'count' });
  status.setAttribute('role', 'status');
  const search = make('input', { type: 'search', id: `${id}-search`, autocomplete: 'off' });
  const tool = (name, control) =>
    make('span', { className: 'tool' }, make('label', { htmlFor: control.id }, name), control);
  const tools = make('div', { className: 'tools' }, tool('Rows with', search));
  const choices = [];
  heads.forEach((head, at) => {
    if (head.dataset.kind !== 'choice') return;
    const values = [...new Set(rows.map((row) => row.texts[at]))];
    if (values.length < 2) return;
    const select = make('select', { id: `${id}-${at}` }, make('option', { value: '' }, 'all'));
    values.forEach((value, index) => select.append(make('option', { value: String(index + 1) }, value)));
    tools.append(tool(head.textContent, select));
    choices.push({ at, select, values });
  });
  const reset = make('button', { type: 'button' }, 'All rows');
  tools.append(reset);
  box.prepend(tools, status);

  let sorted = null;
  const tell = () => {
    const shown = rows.filter(({ row }) => !row.hidden).length;
    const count = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
    status.textContent = sorted ? `${count}, by ${sorted.name}, ${sorted.way}` : count;
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = choices.filter(({ select }) => select.value !== '')
      .map(({ at, select, values }) => [at, values[Number(select.value) - 1]]);
    for (const { row, all, texts } of rows) {
      row.hidden = !(words.every((word) => all.includes(word)) && wanted.every(([at, text]) => texts[at] === text));
    }
    tell();
  };
  search.addEventListener('input', filter);
  choices.forEach(({ select }) => select.addEventListener('change', filter));
  reset.addEventListener('click', () => {
    search.value = '';
    choices.forEach(({ select }) => { select.value = ''; });
    filter();
  });

  const sort = (at, way) => {
    const sign = way === 'ascending' ? 1 : -1;
    // What has no number comes last in both directions; equals stay in the order of the file.
    const compare = heads[at].dataset.kind === 'number'
      ? (a, b) => (Number.isNaN(a.keys[at]) - Number.isNaN(b.keys[at])) || sign * (a.keys[at] - b.keys[at] || 0)
      : (a, b) => sign * (Number.isNaN(a.keys[at]) ? order(a.texts[at], b.texts[at]) : a.keys[at] - b.keys[at]);
    body.append(...[...rows].sort(compare).map(({ row }) => row));
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[at].setAttribute('aria-sort', way);
  };
  heads.forEach((head, at) => {
    if (head.dataset.kind === undefined) return;
    const name = head.textContent;
    const button = make('button', { type: 'button' }, name);
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const way = head.getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
      sort(at, way);
      sorted = { name, way };
      tell();
    });
  });
  tell();
}
})();

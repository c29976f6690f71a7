// What a page does beyond being read: theme, sorting, CSV, switching datasets, filtering, printing.
// Without it every panel of every dataset is shown, one after another.
(() => {
  const all = (what, inside = document) => [...inside.querySelectorAll(what)];
  const root = document.documentElement, theme = document.getElementById('theme');
  const kept = (value) => { try {
    return value === undefined ? localStorage.getItem('theme') : localStorage.setItem('theme', value);
  } catch { return null; } };
  if (kept()) root.dataset.theme = kept();
  theme.hidden = false;
  theme.onclick = () => {
    root.dataset.theme = getComputedStyle(root).colorScheme === 'dark' ? 'light' : 'dark';
    kept(root.dataset.theme);
  };

  // on a phone the contents would push the page itself off the first screen
  if (matchMedia('(max-width: 1000px)').matches)
    document.querySelector('.contents > details').open = false;

  const key = (cell) => cell.dataset.v === undefined ? cell.textContent : +cell.dataset.v;
  const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;
  const sort = (table, column, head) => {
    const falling = head.ariaSort !== 'descending';
    all('th', table.tHead).forEach((other) => other.removeAttribute('aria-sort'));
    head.ariaSort = falling ? 'descending' : 'ascending';
    const rows = [...table.tBodies[0].rows], missing = (row) => row.cells[column].textContent === '–';
    rows.sort((a, b) => missing(a) - missing(b)
      || (falling ? -1 : 1) * compare(key(a.cells[column]), key(b.cells[column])));
    table.tBodies[0].append(...rows);
  };
  const text = (cell) => '"' + cell.textContent.trim().replaceAll('"', '""') + '"';
  const download = (table) => {
    const lines = [...table.rows].filter((row) => !row.hidden)
      .map((row) => [...row.cells].map(text).join(','));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(['\ufeff' + lines.join('\r\n')], {type: 'text/csv'}));
    link.download = table.dataset.csv + '.csv';
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const button = (label, action) => {
    const made = document.createElement('button');
    made.type = 'button';
    made.append(...label);
    made.onclick = action;
    return made;
  };
  for (const table of all('table[data-csv]')) {
    all('thead th', table).forEach((head, column) => {
      if (head.textContent) head.append(button([...head.childNodes], () => sort(table, column, head)));
    });
    table.closest('figure').querySelector('figcaption').append(
      button(['Download CSV'], () => download(table)));
  }

  const panels = all('[data-panel]'), switches = all('select[data-switch]');
  const show = (name) => {
    for (const panel of panels) panel.hidden = panel.dataset.panel !== name;
    for (const each of switches) each.value = name;
  };
  const names = [...new Set(panels.map((panel) => panel.dataset.panel))];
  const wanted = () => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const panel = place && place.closest('[data-panel]');
    return panel && panel.dataset.panel;
  };
  for (const each of switches) {
    each.append(...names.map((name) => new Option(name, name)));
    each.closest('.tools').hidden = false;
    each.onchange = () => {
      show(each.value);
      const panel = panels.find((one) => !one.hidden && one.dataset.group === each.dataset.switch);
      history.replaceState(null, '', '#' + panel.id);
    };
  }
  if (names.length) show(wanted() || names[0]);
  addEventListener('hashchange', () => { if (wanted()) show(wanted()); });

  const verdict = document.getElementById('verdict'), search = document.getElementById('search');
  const filter = () => {
    const words = search.value.toLowerCase();
    for (const row of document.querySelector('#claims-table tbody').rows)
      row.hidden = !row.textContent.toLowerCase().includes(words)
        || (verdict.value && !row.querySelector('.' + verdict.value));
  };
  if (verdict) {
    verdict.closest('.tools').hidden = false;
    verdict.onchange = search.oninput = filter;
  }

  addEventListener('beforeprint', () => all('details').forEach((each) => { each.open = true; }));
})();

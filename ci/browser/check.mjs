// Opens pages in headless Chromium, as a reader does, and holds them to what they promise:
//   nothing is asked for from elsewhere, and no error is logged;
//   axe finds no violation, in light, in dark and in print, with everything unfolded;
//   at 360 pixels nothing but a table's own box scrolls sideways;
//   at 1280 pixels no table is cut but that of the cells, and on paper no chart is missing;
//   tables sort by pointer and by keyboard, filter, and say what they show; without scripts they are complete.
// Usage: node check.mjs CHROMIUM PAGE…
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const [executablePath, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

// What each page asked for and logged.
async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const url = pathToFileURL(path).href;
  const said = [];
  await page.route('**/*', (route) => {
    if (route.request().url() === url) return route.continue();
    said.push(`asks for ${route.request().url()}`);
    return route.abort();
  });
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) said.push(message.text()); });
  page.on('pageerror', (error) => said.push(String(error)));
  await page.goto(url);
  return { page, async close() { assert.deepEqual(said, [], basename(path)); await context.close(); } };
}

// The page's policy lets run the script with this digest only.
function scriptIsAllowed(path) {
  const text = readFileSync(path, 'utf8');
  const script = text.slice(text.indexOf('<script>') + 8, text.lastIndexOf('</script>'));
  const digest = `sha256-${createHash('sha256').update(script).digest('base64')}`;
  assert(text.includes(`script-src '${digest}'`), `the script's digest is ${digest}: say so in crates/lab/src/page/mod.rs`);
}

const unfold = (page) => page.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));

async function violations(page) {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const found = await window.axe.run(document, { runOnly: tags, resultTypes: ['violations'] });
    return found.violations.map(({ id, nodes }) =>
      `${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join('\n')}`);
  });
}

const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
const LIGHT = 'rgb(255, 255, 255)';
const DARK = 'rgb(20, 26, 33)';

async function accessibleInEveryTheme(path) {
  for (const [colorScheme, media, colour] of [['light', 'screen', LIGHT], ['dark', 'screen', DARK], ['dark', 'print', LIGHT]]) {
    const { page, close } = await open(path, { colorScheme });
    await page.emulateMedia({ media });
    await unfold(page);
    assert.equal(await ground(page), colour, `${colorScheme}, ${media}`);
    assert.deepEqual(await violations(page), [], `axe, ${colorScheme}, ${media}`);
    for (const tool of ['.theme', '.tools', 'nav', '.count']) {
      const shown = await page.locator(tool).first().isVisible().catch(() => false);
      if (media === 'print') assert(!shown, `${tool} is printed`);
    }
    await close();
  }
}

async function fitsANarrowScreen(path) {
  const { page, close } = await open(path, { viewport: { width: 360, height: 800 } });
  await unfold(page);
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  if (wide > 360) {
    const culprits = await page.evaluate(() => [...document.querySelectorAll('body *')]
      .filter((one) => one.getBoundingClientRect().right > 361 && !one.closest('.scroll, .wide, pre'))
      .slice(0, 5).map((one) => `${one.tagName}.${one.className} ${one.getBoundingClientRect().right}`));
    assert.fail(`${wide} pixels wide: ${culprits.join('; ')}`);
  }
  await close();
}

// On paper charts that are folded away are there, and long tables that nobody unfolded are not.
async function printsItsCharts(path) {
  const { page, close } = await open(path);
  await page.emulateMedia({ media: 'print' });
  const seen = (selector) => page.evaluate((selector) =>
    [...document.querySelectorAll(selector)].map((one) => one.checkVisibility()), selector);
  let charts = await seen('details.printed .chart');
  // A large page takes a moment to be laid out anew.
  for (let tries = 0; tries < 50 && !charts.every((one) => one); tries += 1) {
    await page.waitForTimeout(100);
    charts = await seen('details.printed .chart');
  }
  assert(charts.every((one) => one), 'a chart is not printed');
  assert((await seen('details:not([open], .printed)')).every((one) => !one), 'what is folded away is printed');
  await close();
  return charts.length;
}

async function tablesFitADesk(path) {
  const { page, close } = await open(path);
  await unfold(page);
  const cut = await page.evaluate(() => [...document.querySelectorAll('.scroll')]
    // That of the cells has a column for each axis, however many there are.
    .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.getAttribute('aria-label') !== 'The cells of the sweep')
    .map((one) => `${one.getAttribute('aria-label')} ${one.scrollWidth} in ${one.clientWidth}`));
  assert.deepEqual(cut, []);
  await close();
}

async function coloursCanBeChosen(path) {
  const { page, close } = await open(path, { colorScheme: 'light' });
  await page.getByRole('radio', { name: 'auto' }).focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  assert.equal(await ground(page), DARK, 'dark was chosen');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await ground(page), LIGHT, 'light was chosen');
  await close();
}

// What a table shows: for each visible row, texts and sort keys.
const shown = (box) => box.evaluate((box) => [...box.querySelector('table').tBodies[0].rows]
  .filter((row) => !row.hidden)
  .map((row) => [...row.cells].map((cell) => ({ text: cell.textContent, key: cell.dataset.v === undefined ? null : Number(cell.dataset.v) }))));

function assertSorted(rows, at, way) {
  const keys = rows.map((row) => row[at].key);
  const none = keys.indexOf(null);
  const known = none < 0 ? keys : keys.slice(0, none);
  assert(none < 0 || keys.slice(none).every((key) => key === null), 'rows without a value come last');
  for (let i = 1; i < known.length; i += 1) {
    assert(way === 'ascending' ? known[i - 1] <= known[i] : known[i - 1] >= known[i], `${known[i - 1]} before ${known[i]}, ${way}`);
  }
  return new Set(known).size;
}

async function tableSortsAndFilters(page, box) {
  const heads = box.locator('thead th');
  const status = box.getByRole('status');
  const all = await shown(box);
  const count = all.length;
  assert.equal(await status.textContent(), `${count} rows`);
  let told = 0;
  for (let at = 0; at < await heads.count(); at += 1) {
    const head = heads.nth(at);
    if (await head.getAttribute('data-kind') !== 'number') continue;
    const column = await head.evaluate((cell) => cell.cellIndex);
    const button = head.getByRole('button');
    await button.click();
    assert.equal(await head.getAttribute('aria-sort'), 'ascending');
    told = Math.max(told, assertSorted(await shown(box), column, 'ascending'));
    await button.focus();
    await page.keyboard.press(at % 2 ? 'Enter' : 'Space');
    assert.equal(await head.getAttribute('aria-sort'), 'descending');
    assertSorted(await shown(box), column, 'descending');
    assert.equal(await box.locator('[aria-sort]').count(), 1, 'one column is sorted by');
    assert.equal(await status.textContent(), `${count} rows, by ${await button.textContent()}, descending`);
  }
  assert(count < 3 || told > 1, 'some column had rows to bring into order');

  const search = box.getByRole('searchbox');
  const word = all[all.length - 1][0].text.toLowerCase();
  await search.fill(word);
  const found = all.filter((row) => word.split(/\s+/).every((part) => row.map(({ text }) => text).join('').toLowerCase().includes(part)));
  assert.equal((await shown(box)).length, found.length, `rows with ${word}`);
  if (found.length < count) assert((await status.textContent()).startsWith(`${found.length} of ${count} rows`));
  await search.fill('no row has this');
  assert.equal((await shown(box)).length, 0);
  await box.getByRole('button', { name: 'All rows' }).click();
  assert.equal((await shown(box)).length, count);
  for (const select of await box.locator('select').all()) {
    const label = await select.evaluate((one) => one.labels[0].textContent);
    const column = await box.evaluate((box, label) =>
      [...box.querySelectorAll('thead th')].find((head) => head.textContent === label).cellIndex, label);
    await select.selectOption({ index: 1 });
    const value = await select.evaluate((one) => one.selectedOptions[0].textContent);
    const rows = await shown(box);
    assert(rows.length > 0 && rows.every((row) => row[column].text === value), `${label}: ${value}`);
    await box.getByRole('button', { name: 'All rows' }).click();
  }
}

async function tablesSortAndFilter(path) {
  const { page, close } = await open(path);
  await unfold(page);
  const boxes = await page.locator('.sorts').all();
  for (const box of boxes) await tableSortsAndFilters(page, box);
  await close();
  return boxes.length;
}

async function readsWithoutScripts(path) {
  const { page, close } = await open(path, { javaScriptEnabled: false });
  assert.equal(await page.locator('.tools, .theme, th button, [hidden]').count(), 0, 'no control that does nothing');
  const { page: scripted, close: closeScripted } = await open(path);
  const rows = 'tbody tr';
  assert.equal(await page.locator(rows).count(), await scripted.locator(rows).count());
  await close();
  await closeScripted();
}

let failed = 0;
for (const path of pages) {
  const checks = [scriptIsAllowed, accessibleInEveryTheme, fitsANarrowScreen, tablesFitADesk, printsItsCharts, coloursCanBeChosen, tablesSortAndFilter, readsWithoutScripts];
  for (const check of checks) {
    const started = Date.now();
    try {
      const result = await check(path);
      console.log(`ok   ${basename(path)} ${check.name}${result === undefined ? '' : ` (${result})`} ${Date.now() - started} ms`);
    } catch (error) {
      failed += 1;
      console.error(`FAIL ${basename(path)} ${check.name}: ${error.message}`);
    }
  }
}
await browser.close();
console.log(`${pages.length} pages, ${failed} failed checks`);
process.exit(failed ? 1 : 0);

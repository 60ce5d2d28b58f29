// What the browser scripts share. A script reads one job as JSON from standard
// input and writes one result as JSON to standard output.
import { chromium } from 'playwright-core'
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'

// Nothing may go out: a browser that looks for updates would wait for a closed
// network, and what a page fetches from elsewhere would not be seen.
const args = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--disable-gpu', '--no-first-run']

export async function readJob() {
  let text = ''
  for await (const chunk of process.stdin) text += chunk
  return JSON.parse(text)
}

export function answer(result) {
  process.stdout.write(JSON.stringify(result))
}

const program = { executablePath: '/usr/bin/chromium', headless: true, args }
const habits = { acceptDownloads: true, locale: 'ja-JP', viewport: { width: 1280, height: 900 } }

// person opens a browser with a profile of its own. It reads certificates from the
// NSS database of HOME, like any Chromium.
export async function person({ more = [], ...options } = {}) {
  const profile = mkdtempSync(join(process.env.HOME, 'profile-'))
  return settled(await chromium.launchPersistentContext(profile, { ...program, args: [...args, ...more], ...habits, ...options }))
}

// crowd opens one browser for many people, each with nothing but what the options give:
// a browser a person takes a second to start.
export async function crowd() {
  const browser = await chromium.launch(program)
  return { someone: async (options) => settled(await browser.newContext({ ...habits, ...options })), close: () => browser.close() }
}

function settled(context) {
  context.setDefaultTimeout(20_000)
  return context
}

// fill types the four fields of the download site.
export async function fill(page, { requestId, referenceId, pin, pinConfirm = pin }) {
  await page.fill('[name=requestId]', requestId)
  await page.fill('[name=referenceId]', referenceId)
  await page.fill('[name=password]', pin)
  await page.fill('[name=passwordConfirm]', pinConfirm)
}

// submitButton is the button of the form that asks for the IDs.
export function submitButton(page) {
  return page.locator('form:has([name=requestId]) [type=submit]').first()
}

// saveLink is the link, or button, that gives the file of a prepared download.
export function saveLink(page) {
  return page.locator('main').locator('a[download], a[href$=".p12"], button[name=save]').first()
}

// send presses the button and waits for the page that answers.
export async function send(page) {
  await Promise.all([page.waitForEvent('framenavigated'), submitButton(page).click()])
  await page.waitForLoadState()
}

export async function prepare(page, portal, ids) {
  await page.goto(portal + '/p/rcd')
  await fill(page, ids)
  await send(page)
}

export async function save(page, path) {
  await page.bringToFront()
  const [download] = await Promise.all([page.waitForEvent('download'), saveLink(page).click()])
  await download.saveAs(path)
  return download.suggestedFilename()
}

// arrive waits until the page is at an address. A second click may end the first one's
// navigation, which waitForURL takes for a failure.
export async function arrive(page, pattern) {
  for (let n = 0; n < 1200 && !pattern.test(page.url()); n++) await page.waitForTimeout(50)
  if (!pattern.test(page.url())) throw new Error(`at ${page.url()}, not at ${pattern}`)
  await page.waitForLoadState()
}

// heading is what a person reads first: an alert if there is one.
export async function heading(page) {
  for (const selector of ['main [role=alert] h2', 'main h1', 'h1']) {
    const found = page.locator(selector).first()
    if (await found.count()) return (await found.innerText()).trim()
  }
  return ''
}

// application types the form of /p/rcr.
export async function application(page, { code, terminal, email }) {
  await page.check('[name=holderKind][value=medical]')
  await page.fill('[name=holderCode]', code)
  await page.fill('[name=department]', '医事課')
  await page.fill('[name=phone]', '011-000-0000')
  await page.fill('[name=email]', email)
  await page.fill('[name=emailConfirm]', email)
  await page.fill('[name=terminalName]', terminal)
  await page.check('[name=paymentMethod][value="1"]')
}

// press presses a button of the page and waits for the page that answers.
export async function press(page, selector) {
  await Promise.all([page.waitForEvent('framenavigated'), page.locator(selector).first().click()])
  await page.waitForLoadState()
}

// mailed waits for a mail to an address whose text leads to a path, and gives the link.
export async function mailed(page, mail, address, path) {
  for (let tries = 0; tries < 100; tries++) {
    const all = await (await page.request.get(mail + '/messages.json')).json()
    for (const m of all) {
      const text = JSON.stringify(m)
      const found = text.includes(address) && text.match(new RegExp('https://[^\\s"\\\\]+' + path + '[A-Za-z0-9_-]{22}'))
      if (found) return found[0]
    }
    await page.waitForTimeout(200)
  }
  throw new Error(`no mail to ${address} leads to ${path}`)
}

// Two people with a certificate each, five tabs each, and a person with ten tabs at the
// download site do things at random: no page and no file is ever another request's.
import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { answer, fill, person, readJob, saveLink, submitButton } from './lib.mjs'

const job = await readJob()
let state = job.seed >>> 0
const dice = (n) => { // mulberry32
  state = (state + 0x6d2b79f5) >>> 0
  let x = Math.imul(state ^ (state >>> 15), state | 1)
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
  return ((x ^ (x >>> 14)) >>> 0) % n
}
const problems = []
const files = []
const tabs = []
for (const who of job.people) {
  const context = await person({ ignoreHTTPSErrors: true, clientCertificates: who.p12 && [{ origin: job.site, pfxPath: who.p12, passphrase: who.password }] })
  for (let n = 0; n < who.tabs; n++) {
    const page = await context.newPage()
    tabs.push({ who, page, of: who.requests[n % who.requests.length] })
    await page.goto(who.p12 ? job.site + '/p/ru' : job.portal + '/p/rcd')
  }
}

// belongs wants a page to name its own request alone.
async function belongs(tab, what) {
  const text = (await tab.page.content()).replace(/<[^>]*>/g, '').replace(/\s/g, '')
  for (const r of job.all) {
    const mine = tab.who.p12 ? tab.who.requests : [tab.of]
    if (!mine.some((m) => m.requestId === r.requestId) && text.includes(r.requestId)) problems.push(`${what}: ${tab.page.url()} names ${r.requestId}`)
  }
}

async function keep(tab) {
  const link = saveLink(tab.page)
  if (!(await link.count())) return
  const response = await tab.page.request.get(await link.evaluate((a) => a.href)).catch(() => null)
  if (!response || !response.ok()) return // three fetches were made
  const body = await response.body()
  const shown = await tab.page.locator('.hash').first().innerText().catch(() => '')
  if (shown.replace(/\s/g, '') !== createHash('sha256').update(body).digest('hex')) problems.push('the file is not the one that its page shows')
  files.push({ of: tab.of.requestId, sum: shown.replace(/\s/g, '') })
}

async function act(tab) {
  const { page, who, of } = tab
  const base = who.p12 ? job.site : job.portal
  switch (dice(6)) {
    case 0: return page.goto(who.p12 ? `${base}/p/ru/r/${of.requestId}` : base + '/p/rcd')
    case 1: return page.reload()
    case 2: return page.goBack()
    case 3: return page.goto(base + (who.p12 ? '/p/ru' : '/p/rcd'))
    case 4: return keep(tab)
    default: // the form, if the page has one
      if (!(await page.locator('[name=password]').count())) return
      if (who.p12) {
        await page.fill('[name=password]', of.pin)
        await page.fill('[name=passwordConfirm]', of.pin)
      } else await fill(page, of)
      await submitButton(page).click()
      await page.waitForLoadState()
      if (!(await saveLink(page).count())) problems.push(`no file at ${page.url()}: ${await page.locator('h1').first().innerText()}`)
      return keep(tab)
  }
}

for (let n = 0; n < job.steps && !problems.length; n++) {
  const tab = tabs[dice(tabs.length)]
  await act(tab).catch((e) => { if (!/Timeout/.test(e.message)) problems.push(`step ${n}: ${e.message}`) })
  await belongs(tab, 'step ' + n)
}
answer({ problems, files })
for (const tab of tabs) await tab.page.close()
process.exit(0)

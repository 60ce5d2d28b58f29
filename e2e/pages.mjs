// Walks every page in one language: what links lead to, and what mistakes lead to.
// On each it looks for what is wrong (axe, script errors, requests to elsewhere, a
// page wider than its window) and, if asked, takes a picture.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { answer, application, crowd, fill, heading, mailed, prepare, press, readJob, saveLink, send } from './lib.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const maxPages = 120
const wide = { width: 1280, height: 900 }
const phone = { width: 360, height: 740 }
// A small screen, and the wide one at 200 %: to the page, half as many pixels.
const others = [{ width: 1024, height: 768 }, { width: 640, height: 450 }]

const job = await readJob()
const locale = job.lang === 'ja' ? 'ja-JP' : 'en-US'
const people = await crowd()
const context = await people.someone({ locale, viewport: wide })
let page = await context.newPage()
const pages = []
const taken = new Set()
const links = new Set()

// What goes wrong while a page loads belongs to the page that is looked at next.
let noise = []
function listen(page) {
  page.on('console', (m) => {
    // The browser itself notes each answer of 4xx; error pages are what we look at.
    if (m.type() === 'error' && !/Failed to load resource/.test(m.text())) noise.push('console: ' + m.text())
  })
  page.on('pageerror', (e) => noise.push('script: ' + e.message))
  page.on('requestfailed', (r) => {
    if (r.failure()?.errorText !== 'net::ERR_ABORTED') noise.push(`request failed: ${r.url()} ${r.failure()?.errorText}`)
  })
  page.on('response', (r) => {
    if (r.status() >= 400 && r.request().resourceType() !== 'document') noise.push(`${r.status()} for ${r.url()}`)
  })
  page.on('request', (r) => {
    if (!r.url().startsWith('data:') && !job.origins.includes(new URL(r.url()).origin)) noise.push('request to elsewhere: ' + r.url())
  })
}
listen(page)

async function look(name) {
  if (taken.has(name)) return
  taken.add(name)
  const problems = noise
  noise = []
  const facts = await page.evaluate(() => ({
    lang: document.documentElement.lang,
    title: document.title.trim(),
    h1: document.querySelectorAll('h1').length,
    hrefs: [...document.querySelectorAll('a[href]')].filter((a) => !a.hasAttribute('download')).map((a) => a.href),
  }))
  // The page of caught mails is a tool of the demo; mails speak the holder's language.
  if (facts.lang !== job.lang && (page.url().startsWith(job.portal) || page.url().startsWith(job.site))) problems.push(`lang is "${facts.lang}"`)
  if (!facts.title) problems.push('no title')
  if (facts.h1 !== 1) problems.push(`${facts.h1} h1`)
  for (const href of facts.hrefs) links.add(href.split('#')[0])

  const file = (kind) => join(job.screens, `${name}-${job.lang}${kind}.png`)
  if (job.screens) await page.screenshot({ path: file(''), fullPage: true })
  await page.evaluate(axe) // once a document
  await axeHere(problems, '')
  await fits(problems)
  for (const size of others) {
    await page.setViewportSize(size)
    await fits(problems)
  }
  await page.setViewportSize(phone)
  await fits(problems)
  if (job.screens) await page.screenshot({ path: file('-phone'), fullPage: true })
  await axeHere(problems, ' (telephone)')
  await page.setViewportSize(wide)
  pages.push({ name, url: page.url(), heading: await heading(page), problems })
}

// fits wants nobody to scroll sideways, neither the page nor a part of it.
async function fits(problems) {
  for (const p of await page.evaluate(() => {
    const parts = [document.documentElement, ...document.querySelectorAll('main *')]
    const scrolls = (e) => e === document.documentElement || /auto|scroll/.test(getComputedStyle(e).overflowX)
    return parts.filter((e) => e.scrollWidth > e.clientWidth && scrolls(e)).map((e) => `<${e.localName} class="${e.className}"> needs ${e.scrollWidth} of ${e.clientWidth} pixels in a window of ${innerWidth}`)
  })) problems.push(p)
}

async function axeHere(problems, where) {
  const violations = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] })
    return violations.map((v) => ({ id: v.id, help: v.help, html: v.nodes.slice(0, 3).map((n) => n.html) }))
  })
  for (const v of violations) problems.push(`axe${where}: ${v.id}: ${v.help}: ${v.html.join(' | ')}`)
}

// mistake sends the form with something wrong that the browser itself would stop.
async function mistake(name, ids) {
  await page.goto(job.portal + '/p/rcd')
  await page.evaluate(() => document.querySelectorAll('form').forEach((f) => { f.noValidate = true }))
  await page.evaluate(() => document.querySelectorAll('[maxlength]').forEach((f) => f.removeAttribute('maxlength')))
  await fill(page, ids)
  await send(page)
  await look(name)
}

// away leaves a page for longer than a session lasts, and goes on where it was.
async function away(name) {
  await page.request.post(job.idle)
  await page.reload()
  await look(name)
  await press(page, 'main form button')
}

// Only these: states that are gone when the walk begins.
if (job.only) {
  for (const [name, url] of Object.entries(job.only)) {
    await page.goto(url)
    await look(name)
  }
  answer({ pages })
  await people.close()
  process.exit(0)
}

// The download site, with all that can go wrong there.
await page.goto(job.portal + '/p/rcd')
await look('rcd-form')
const ids = { ...job.samples.find((s) => s.purpose === 'download'), pin: job.pin }
await mistake('rcd-empty', { requestId: '', referenceId: '', pin: '' })
await mistake('rcd-wrong-ids', { ...ids, referenceId: 'ABCDEFGHJK' })
await mistake('rcd-pin-form', { ...ids, pin: '12ab' })
await mistake('rcd-pin-differs', { ...ids, pinConfirm: '5999' })
await mistake('rcd-too-large', { ...ids, referenceId: 'A'.repeat(70_000) })

// Too many wrong answers from here: nobody's request, one of its own for each language.
const guessed = { ...ids, requestId: job.lang === 'ja' ? '202001010000011' : '202001010000012', referenceId: 'ABCDEFGHJK' }
for (let i = 0; i < 10; i++) {
  const { requestId, referenceId, pin } = guessed
  await page.request.post(job.portal + '/p/rcd', { form: { requestId, referenceId, password: pin, passwordConfirm: pin } })
}
await mistake('rcd-slow', guessed)
for (const sample of job.samples) {
  if (!sample.referenceId) continue
  await prepare(page, job.portal, { ...sample, pin: job.pin })
  await look('rcd-' + (sample.purpose === 'download' ? 'done' : sample.purpose))
}

// The file is saved: its key may be destroyed, but not without saying that a copy is kept.
await prepare(page, job.portal, ids)
await page.request.get(await saveLink(page).evaluate((a) => a.href))
await page.reload()
await page.locator('#end summary').click()
await look('rcd-done-saved')
await page.evaluate(() => document.querySelectorAll('form').forEach((f) => { f.noValidate = true }))
await page.locator('#end button').click()
await look('rcd-not-kept')

// A ticket that is used up, somebody else's, and none at all.
await prepare(page, job.portal, ids)
const href = await saveLink(page).evaluate((a) => a.href)
const donePage = page.url()
for (let i = 0; i < 4; i++) await page.request.get(href)
await page.goto(href).catch(() => {})
await look('rcd-ticket-over')
if (donePage !== job.portal + '/p/rcd') {
  await prepare(page, job.portal, ids)
  const mine = page.url()
  await context.clearCookies()
  await page.goto(mine)
  await look('rcd-ticket-foreign')
  await page.goto(mine.replace(/.$/, (c) => (c === 'A' ? 'B' : 'A')))
  await look('rcd-ticket-unknown')
}
// The revocation site: by the letter's IDs, with all that can go wrong there.
async function choose(name, { requestId, referenceId }) {
  await page.goto(job.portal + '/p/rx')
  await look('p-rx')
  await page.fill('[name=requestId]', requestId)
  await page.fill('[name=referenceId]', referenceId)
  await send(page)
  await look(name)
}
async function revoke(name, reason) {
  await press(page, 'main form [type=submit]')
  await look('rx-contact-wrong')
  await page.fill('[name=email]', 'desk@example.jp')
  await page.fill('[name=emailConfirm]', 'desk@example.jp')
  await page.check(`[name=reason][value=${reason}]`)
  await press(page, 'main form [type=submit]')
  await look('rx-confirm-' + reason)
  await press(page, '[name=action][value=apply]')
  await look(name)
}
await choose('rx-empty', { requestId: '', referenceId: '' })
await choose('rx-wrong-ids', { ...ids, referenceId: 'ABCDEFGHJK' })
for (const sample of job.samples) {
  if (['expired', 'revoked'].includes(sample.purpose)) await choose('rx-' + sample.purpose, sample)
}
await choose('rx-contact', job.revoke.held)
await away('rx-ended')
await revoke('rx-held', 'keyCompromise')
const receipt = page.url()
await choose('rx-contact', job.revoke.waits)
await revoke('rx-received', 'superseded')
await context.clearCookies()
await page.goto(receipt)
await look('rx-foreign')
await page.goto(job.site + '/p/rx')
await look('rx-none')
for (let i = 0; i < 10; i++) {
  await page.request.post(job.portal + '/p/rx', { form: { requestId: guessed.requestId, referenceId: guessed.referenceId } })
}
await choose('rx-slow', guessed)

// … and by the certificate itself.
const letters = page
const holder = await people.someone({ locale, viewport: wide, ignoreHTTPSErrors: true,
  clientCertificates: [{ origin: job.site, pfxPath: job.revoke.own.p12, passphrase: job.revoke.own.password }] })
page = await holder.newPage()
listen(page)
await page.goto(job.site + '/p/rx')
await look('rx-mine')
await press(page, 'main form button')
await look('rx-mine-contact')
// The signer hangs, so that the list is late. The page tells, and goes on by itself.
await page.request.post(job.signer + '/stop')
await revoke('rx-final', 'keyCompromise')
await page.waitForSelector('[data-progress$=-ocsp-late]')
await look('rx-late')
await page.request.post(job.signer + '/go')
await page.waitForSelector('[data-progress$=-listed]')
await look('rx-published')
await page.goto(job.site + '/p/rx')
await look('rx-mine-already')
await holder.close()
page = letters

// The application site and the look at its state, with all that can go wrong there.
const applicant = { code: '0110119153', terminal: `画面${job.lang}1号機`, email: `screens-${job.lang}@clinic.example.jp` }
const main = 'main form .btn'
await page.goto(job.portal + '/p/rcr')
await look('rcr')
await press(page, main)
await look('rcr-empty')
await application(page, { ...applicant, code: '0119153', terminal: 'Windows 11' })
await press(page, 'main form .acts .btn:not(.second)')
await look('rcr-wrong')
await page.fill('[name=terminalName]', applicant.terminal)
await page.selectOption('[name=prefecture]', '1')
await press(page, '[value=complete]')
await look('rcr-seven')
await press(page, '[value=useCode]')
await look('rcr-confirm')
await press(page, '[value=back]')
await look('rcr-again')
await away('rcr-ended')
await press(page, 'main form .acts .btn:not(.second)')
await press(page, '[value=apply]')
await look('rcr-sent')
await page.goto(await mailed(page, job.mail, applicant.email, '/p/rcr/c/'))
await look('rcr-link')
await press(page, main)
await look('rcr-done')
await page.goto(await mailed(page, job.mail, applicant.email, '/p/status/l/'))
await look('status-link')
await page.locator('main summary').click()
await press(page, main)
await look('status-withdrawn')
await page.goto(job.portal + '/p/status')
await look('status')
await page.fill('[name=receiptNumber]', '202001010000001')
await page.fill('[name=holderCode]', applicant.code)
await press(page, main)
await look('status-unknown')
await page.goto(job.portal + '/p/rcr/c/AAAAAAAAAAAAAAAAAAAAAA')
await look('rcr-no-link')
await page.goto(job.portal + '/p/status/l/AAAAAAAAAAAAAAAAAAAAAA')
await look('status-no-link')

await page.goto(job.portal + '/p/there-is-no-such-page')
await look('not-found')

// The other zones' first pages; a zone that insists on a certificate has none here.
for (const [name, url] of Object.entries(job.starts)) {
  const response = await page.goto(url).catch(() => null)
  if (!response) {
    await page.waitForTimeout(300) // the browser's own error page is still coming
    await page.goto('about:blank')
    noise = []
  } else if ((response.headers()['content-type'] ?? '').startsWith('text/html')) await look(name)
}

// The pages of a certificate, with each kind that a browser may present.
const walked = new Set(links)
for (const [kind, { p12, password }] of Object.entries(job.holders)) {
  const held = await people.someone({ locale, viewport: wide, ignoreHTTPSErrors: true, clientCertificates: p12 && [{ origin: job.site, pfxPath: p12, passphrase: password }] })
  page = await held.newPage()
  listen(page)
  const see = async (path, name) => {
    await page.goto(job.site + path)
    await look(name)
  }
  await see('/p/check', 'check-' + kind)
  await see('/p/ru', 'ru-' + kind)
  if (kind === 'early' || kind === 'expired') await see('/p/ru/apply', 'ru-apply-' + kind)
  if (kind === 'early') await see('/p/ru/list', 'ru-list-empty')
  if (kind === 'open') {
    await see('/p/ru/apply', 'ru-apply')
    await page.evaluate(() => { document.querySelector('[name=form]').value = 'old' })
    await page.locator('button[value=submit]').click()
    await look('ru-stale')
  }
  if (kind === 'renewed') {
    await see('/p/ru/list', 'ru-list')
    await see('/p/ru/r/200001010000001', 'ru-unknown')
    await see('/p/ru/r/' + job.renewed, 'ru-request')
    await page.fill('[name=password]', '12')
    await page.locator('form:has([name=password]) [type=submit]').click()
    await look('ru-pin-form')
    await page.fill('[name=password]', '123456')
    await page.fill('[name=passwordConfirm]', '1234')
    await page.locator('form:has([name=password]) [type=submit]').click()
    await look('ru-pin-differs')
    await page.fill('[name=password]', '123456')
    await page.fill('[name=passwordConfirm]', '123456')
    await page.locator('form:has([name=password]) [type=submit]').click()
    await saveLink(page).waitFor()
    await look('ru-file')
    const mine = page.url()
    await held.clearCookies()
    await page.goto(mine)
    await look('ru-ticket-foreign')
  }
  await held.close()
}
page = await context.newPage()
listen(page)
links.clear() // with a certificate they were walked above
for (const url of walked) links.add(url)

// Everything that links lead to, inside the program.
for (const url of links) {
  if (taken.size >= maxPages) break
  const { origin, pathname, search } = new URL(url)
  if (!job.origins.includes(origin) || pathname.includes('/t/') || search) continue // ?lang= would change the rest of the walk
  if (origin === job.mail && pages.filter((p) => p.url.startsWith(job.mail)).length > 4) continue
  const head = await page.request.get(url, { maxRedirects: 3 }).catch(() => null)
  if (!head || !(head.headers()['content-type'] ?? '').startsWith('text/html')) continue
  const name = pathname.replace(/[^a-z0-9]+/gi, '-').replace(/^-+|-+$/g, '') || 'start'
  if (taken.has(name) || pages.some((p) => p.url === url)) continue
  const response = await page.goto(url)
  // This person owns no certificate: pages that ask for one say so.
  const asked = response.status() === 403 && new URL(response.url()).origin === job.site
  if (response.status() >= 400 && !asked) noise.push(`a link leads to ${response.status()}`)
  await look(name)
}

answer({ pages })
await people.close()

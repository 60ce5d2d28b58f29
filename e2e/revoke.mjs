// Revokes on the page as impatient people do: a double click, a reload, back, and a tab
// that stayed behind. With a PKCS#12 file the certificate itself is the proof.
import { answer, heading, person, readJob, send } from './lib.mjs'

const job = await readJob()
const certificate = { origin: job.portal, pfxPath: job.p12, passphrase: job.password }
const context = await person(job.p12 ? { ignoreHTTPSErrors: true, clientCertificates: [certificate] } : {})
const page = await context.newPage()
const press = (p, selector) => Promise.all([p.waitForEvent('framenavigated'), p.locator(selector).click()]).then(() => p.waitForLoadState())
const says = async (p) => `${(await p.locator('main .subject b.id').innerText()).trim()} ${(await p.locator('main [role=status] h2').innerText()).trim()}`

await page.goto(job.portal + '/p/rx')
if (job.p12) await press(page, 'main form button')
else {
  await page.fill('[name=requestId]', job.requestId)
  await page.fill('[name=referenceId]', job.referenceId)
  await send(page)
}
const fill = async (p, reason) => {
  await p.fill('[name=email]', 'typed@example.jp')
  await p.fill('[name=emailConfirm]', 'typed@example.jp')
  await p.check(`[name=reason][value=${reason}]`)
}
const stale = await context.newPage() // the same step in another tab
await stale.goto(page.url())
await fill(stale, 'unspecified')

await fill(page, 'superseded')
await press(page, 'main form [type=submit]')
await press(page, '[name=action][value=back]') // changed their mind about the reason
await fill(page, job.reason)
await press(page, 'main form [type=submit]')
await page.locator('[name=action][value=apply]').dblclick()
await page.locator('main [role=status]').waitFor()
await page.waitForLoadState()
const first = await says(page)
await page.reload()
const reloaded = await says(page)
await page.goBack().catch(() => {})
await page.reload()
const flow = stale.url()
await page.goto(flow)
const back = await says(page)
await press(stale, 'main form [type=submit]')
const behind = await says(stale)
let last = await page.locator('main [role=status] h2').innerText()
if (job.until) { // nobody touches the page: it follows by itself
  await page.locator('.progress .done', { hasText: job.until }).waitFor({ timeout: 90_000 })
  last = await page.locator('main [role=status] h2').innerText()
}
answer({ number: first.split(' ')[0], first, reloaded, back, stale: behind, last: last.trim(), heading: await heading(page) })
await context.close()
